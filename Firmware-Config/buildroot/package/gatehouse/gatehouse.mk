################################################################################
#
# gatehouse
#
# The static binary of Tools/build, with what is beside this folder. Nothing is compiled here, since Buildroot has no Swift:
#   make BR2_EXTERNAL=/where/gatehouse/is/Firmware-Config/buildroot menuconfig
#
################################################################################

GATEHOUSE_VERSION = 0.1.0
# There is nothing to download.
GATEHOUSE_SOURCE =
GATEHOUSE_LICENSE = Apache-2.0, MIT (musl, libyaml), OLDAP-2.8 (lmdb), Zlib (zlib)
GATEHOUSE_FIRMWARE_CONFIG = $(BR2_EXTERNAL_GATEHOUSE_PATH)/..
GATEHOUSE_BINARY = $(BR2_EXTERNAL_GATEHOUSE_PATH)/../../dist/gatehouse-$(if $(BR2_x86_64),x86_64,$(if $(BR2_aarch64),aarch64,armv7))

define GATEHOUSE_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(GATEHOUSE_BINARY) $(TARGET_DIR)/usr/bin/gatehouse
	$(INSTALL) -D -m 0640 $(GATEHOUSE_FIRMWARE_CONFIG)/gatehouse.yaml $(TARGET_DIR)/etc/gatehouse/gatehouse.yaml
	$(INSTALL) -d $(TARGET_DIR)/usr/share/gatehouse/bundles $(TARGET_DIR)/usr/share/gatehouse/presets
	$(INSTALL) -m 0644 $(GATEHOUSE_FIRMWARE_CONFIG)/bundles/*.yaml $(TARGET_DIR)/usr/share/gatehouse/bundles
	$(INSTALL) -m 0644 $(GATEHOUSE_FIRMWARE_CONFIG)/presets/*.yaml $(TARGET_DIR)/usr/share/gatehouse/presets
endef

define GATEHOUSE_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(GATEHOUSE_FIRMWARE_CONFIG)/systemd/gatehouse.service \
		$(TARGET_DIR)/usr/lib/systemd/system/gatehouse.service
	$(INSTALL) -D -m 0644 $(GATEHOUSE_FIRMWARE_CONFIG)/systemd/gatehouse.tmpfiles \
		$(TARGET_DIR)/usr/lib/tmpfiles.d/gatehouse.conf
endef

define GATEHOUSE_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(GATEHOUSE_PKGDIR)/S60gatehouse $(TARGET_DIR)/etc/init.d/S60gatehouse
endef

define GATEHOUSE_USERS
	gatehouse -1 gatehouse -1 * /var/lib/gatehouse - - Gatehouse edge agent
endef

define GATEHOUSE_PERMISSIONS
	/etc/gatehouse d 750 root gatehouse - - - - -
	/etc/gatehouse/gatehouse.yaml f 640 root gatehouse - - - - -
endef

$(eval $(generic-package))

SUMMARY = "Customer data at the edge"
DESCRIPTION = "Collects events, governs them by consent, unifies profiles, decides by rules over a local API, and delivers \
to a hub. The static binary that Tools/build of its repository has left in dist/ there: nothing is compiled here."
LICENSE = "Apache-2.0 & MIT & OLDAP-2.8 & Zlib"
GATEHOUSE = "${GATEHOUSE_LAYER}/../.."
LIC_FILES_CHKSUM = "file://${GATEHOUSE}/LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"

COMPATIBLE_HOST = "(x86_64|aarch64|arm).*-linux.*"
GATEHOUSE_BINARY = "${GATEHOUSE}/dist/gatehouse-${@'armv7' if d.getVar('TARGET_ARCH') == 'arm' else d.getVar('TARGET_ARCH')}"

inherit systemd useradd

SYSTEMD_SERVICE:${PN} = "gatehouse.service"
USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --user-group --home-dir /var/lib/gatehouse --no-create-home --shell /sbin/nologin gatehouse"
RRECOMMENDS:${PN} = "ca-certificates tzdata"

do_configure[noexec] = "1"
do_compile[noexec] = "1"
# It is stripped and static as it comes.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INSANE_SKIP:${PN} = "already-stripped"

# Another binary, or another file of it, makes another package.
do_install[file-checksums] += "${GATEHOUSE_BINARY}:True ${GATEHOUSE_LAYER}/../gatehouse.yaml:True \
    ${GATEHOUSE_LAYER}/../systemd:True ${GATEHOUSE_LAYER}/../bundles:True ${GATEHOUSE_LAYER}/../presets:True"

do_install() {
    config="${GATEHOUSE_LAYER}/.."
    install -D -m 0755 "${GATEHOUSE_BINARY}" "${D}${bindir}/gatehouse"
    install -D -m 0640 "$config/gatehouse.yaml" "${D}${sysconfdir}/gatehouse/gatehouse.yaml"
    chown -R root:gatehouse "${D}${sysconfdir}/gatehouse"
    chmod 0750 "${D}${sysconfdir}/gatehouse"
    install -D -m 0644 "$config/systemd/gatehouse.service" "${D}${systemd_system_unitdir}/gatehouse.service"
    install -D -m 0644 "$config/systemd/gatehouse.tmpfiles" "${D}${nonarch_libdir}/tmpfiles.d/gatehouse.conf"
    install -d "${D}${datadir}/gatehouse/bundles" "${D}${datadir}/gatehouse/presets"
    install -m 0644 "$config"/bundles/*.yaml "${D}${datadir}/gatehouse/bundles"
    install -m 0644 "$config"/presets/*.yaml "${D}${datadir}/gatehouse/presets"
}

CONFFILES:${PN} = "${sysconfdir}/gatehouse/gatehouse.yaml"
FILES:${PN} += "${datadir}/gatehouse ${nonarch_libdir}/tmpfiles.d"

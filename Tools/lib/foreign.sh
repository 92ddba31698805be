# The foreign C libraries of the shipped binary: LMDB, mbedTLS, libyaml and zlib from Debian's source packages, and musl
# from Debian's musl-dev, compiled for one architecture into a sysroot under .build. From source, because Debian's own
# static libraries are made for glibc, whose part alone would be a third of the binary. The machine's own package system
# learns of no other architecture.
# Sourced by ship.sh and Tools/torture after common.sh, never run.

foreign_sources=(lmdb mbedtls libyaml zlib)
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# debian_mirrors FOLDER : the mirrors that this machine uses for Debian, as files for apt, asked for sources besides. Only
# what Debian has signed counts, whatever else the machine trusts.
debian_mirrors() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        case $file in
            *.sources) [ -f "$file" ] || continue
                awk -v RS= -v ORS='\n\n' '/debian-archive-keyring/' "$file" \
                    | sed -E 's/^Types:.*/Types: deb deb-src/I; /^(Trusted|Allow-[a-z-]+):/Id' \
                        >"$1/$(basename "$file")" ;;
            *.list) [ -f "$file" ] || continue
                sed -nE 's#^deb +(\[[^]]*\] +)?([^ ]+/debian(-security)?/?|[^ ]*security\.debian\.org/?) +([^ ]+) .*\<main\>.*#\2 \4#p' \
                    "$file" | while read -r address suite; do
                    printf '%s [signed-by=%s] %s %s main\n' deb "$debian_keyring" "$address" "$suite" \
                        deb-src "$debian_keyring" "$address" "$suite"
                done >"$1/$(basename "$file")" ;;
        esac
    done
}

# isolated_apt STATE ARCH : sets apt_options so that apt works on a state of its own, with source packages.
isolated_apt() {
    local state=$1 arch=$2
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/parts"
    : >"$state/status"
    debian_mirrors "$state/parts"
    apt_options=(
        -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -o "Dir::State=$state"
        -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state/cache"
        -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$state/parts"
        -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o pkgCacheGen::Essential=none)
    apt-get "${apt_options[@]}" update -qq >&2 || fail "apt-get could not read the lists of Debian's mirror"
}

# fetch_foreign : Debian's sources, with Debian's patches, in .build/sources/NAME.
fetch_foreign() {
    [ -f .build/sources/.complete ] && compgen -G '.build/sources/*.dsc' >/dev/null && return 0
    local folder="$top/.build/sources" name
    rm -rf "$folder"
    mkdir -p "$folder/packages"
    isolated_apt "$folder/apt" amd64
    say "fetching the sources of ${foreign_sources[*]}"
    (cd "$folder/packages" && apt-get "${apt_options[@]}" source --download-only -qq "${foreign_sources[@]}" >&2) \
        || fail "apt-get could not fetch the sources of ${foreign_sources[*]}: does the mirror have source packages?"
    for name in "${foreign_sources[@]}"; do
        # apt has held the files against the signed lists already.
        dpkg-source --no-check -x "$folder"/packages/"${name}"_*.dsc "$folder/$name" >/dev/null
    done
    # Their descriptions stay: Tools/package says which versions are in a binary.
    mv "$folder"/packages/*.dsc "$folder"
    rm -rf "$folder/apt" "$folder/packages"
    touch "$folder/.complete"
}

# change_lmdb : sets lmdb, the folder of its sources, in which mdb-changed.c is what is compiled.
change_lmdb() {
    lmdb="$top/.build/sources/lmdb/libraries/liblmdb"
    sed -f "$top/Tools/lib/lmdb.sed" "$lmdb/mdb.c" | keep "$lmdb/mdb-changed.c"
    local word
    for word in me_kept=5 mdb_env_rest=1 'FATAL_ERROR) && !(flags & MDB_TXN_RDONLY)=1' page_is_bad=6 node_is_bad=11 C_BAD=4 'return MDB_CORRUPTED'=33; do
        [ "$(grep -c "${word%=*}" "$lmdb/mdb-changed.c")" = "${word##*=}" ] || fail "LMDB is not as Tools/lib/lmdb.sed expects it: $word"
    done
}

# make_sysroot DEBIAN_ARCH GNU_TRIPLE : headers and static libraries for that architecture in
# .build/sysroot/DEBIAN_ARCH; sets sysroot (absolute).
make_sysroot() {
    local debian=$1 gnu=$2
    sysroot="$top/.build/sysroot/$debian"
    local stamp
    stamp=$(cat "$top"/Tools/lib/{foreign.sh,lmdb.sed,mbedtls-config.h,no-sha1.c} | cksum)
    [ "$(cat "$sysroot/.complete" 2>/dev/null)" = "$stamp" ] && return 0
    fetch_foreign
    # Beside the old one, which stays if something fails.
    local finished=$sysroot
    sysroot="$finished.new"
    rm -rf "$sysroot"
    mkdir -p "$sysroot/include" "$sysroot/lib"

    say "$debian: unpacking musl"
    local state="$sysroot/apt"
    isolated_apt "$state" "$debian"
    (cd "$state/cache" && apt-get "${apt_options[@]}" download -qq musl-dev >&2) \
        || fail "apt-get could not fetch musl-dev for $debian"
    dpkg -x "$state"/cache/musl-dev_*.deb "$sysroot/musl"
    cp -R "$sysroot"/musl/usr/include/*-linux-musl*/. "$sysroot/include"
    cp -R "$sysroot"/musl/usr/lib/*-linux-musl*/. "$sysroot/lib"
    dpkg-deb -f "$state"/cache/musl-dev_*.deb Version >"$sysroot/musl-version"
    cp "$sysroot/musl/usr/share/doc/musl-dev/copyright" "$sysroot/musl-copyright"
    rm -rf "$sysroot/musl" "$state"

    say "$debian: compiling ${foreign_sources[*]}"
    local sources="$top/.build/sources"
    cp "$sources/lmdb/libraries/liblmdb/lmdb.h" "$sources"/zlib/{zlib,zconf}.h "$sources/libyaml/include/yaml.h" \
        "$sysroot/include"
    cp -R "$sources"/mbedtls/include/{mbedtls,psa} "$sysroot/include"
    cp "$top/Tools/lib/mbedtls-config.h" "$sysroot/include/mbedtls/gatehouse.h"
    sed -i '1i #define MBEDTLS_USER_CONFIG_FILE "mbedtls/gatehouse.h"' "$sysroot/include/mbedtls/config.h"
    local lmdb
    change_lmdb
    compile_library "$gnu" lmdb "$lmdb" -Oz -DMDB_USE_ROBUST=1 \
        -Dpthread_mutexattr_setrobust=cp_set_robust -- mdb-changed.c midl.c
    # The checksum by one table of 1 KiB and not nine.
    compile_library "$gnu" z "$sources/zlib" -DHAVE_UNISTD_H -DZ_TESTW=0 -- adler32.c crc32.c inffast.c
    compile_library "$gnu" z "$sources/zlib" -DHAVE_UNISTD_H -Os -- deflate.c trees.c
    compile_library "$gnu" z "$sources/zlib" -DHAVE_UNISTD_H -Oz -- inflate.c inftrees.c zutil.c
    compile_library "$gnu" yaml "$sources/libyaml/src" -DYAML_VERSION_MAJOR=0 -DYAML_VERSION_MINOR=2 \
        -DYAML_VERSION_PATCH=5 '-DYAML_VERSION_STRING="0.2.5"' -Oz -- api.c reader.c scanner.c parser.c
    local files
    mapfile -t files < <(cd "$sources/mbedtls/library" && ls -- *.c | grep -v ^psa_)
    # Small, but for the hash, which each identifier goes through. What must take the same time for all secrets is no bitcode:
    # the linker could see through it.
    compile_library "$gnu" mbedtls "$sources/mbedtls/library" -Oz -- "${files[@]}"
    compile_library "$gnu" mbedtls "$top/Tools/lib" -Oz -- no-sha1.c
    compile_library "$gnu" mbedtls "$sources/mbedtls/library" -O2 -- sha256.c constant_time.c
    printf '%s' "$stamp" >"$sysroot/.complete"
    rm -rf "$finished"
    mv "$sysroot" "$finished"
    sysroot=$finished
}

# compile_library GNU_TRIPLE NAME FOLDER FLAG... -- FILE... : lib/libNAME.a of the sysroot.
compile_library() {
    local gnu=$1 name=$2 folder=$3; shift 3
    local flags=() objects="$sysroot/objects/$name"
    local compiler=("$gnu-gcc" -O2 -isystem "$("$gnu-gcc" -print-file-name=include)")
    # Debian's armel is for older processors than Gatehouse is.
    [ "$gnu" != arm-linux-gnueabi ] || flags=(-march=armv7-a+fp -mfloat-abi=softfp -mthumb)
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    # On x86-64, whose binary is the largest, what need not be fast is bitcode, which the linker makes small with the rooms.
    if [ "$gnu" != x86_64-linux-gnu ]; then
        flags=("${flags[@]/#-Oz/-Os}")
    elif [[ " ${flags[*]} " = *" -Oz "* ]]; then
        compiler=("$swift_root/bin/clang" --target=x86_64-unknown-linux-gnu -flto
            -isystem "$("$swift_root/bin/clang" -print-resource-dir)/include")
    fi
    mkdir -p "$objects"
    printf '%s\0' "$@" | xargs -0 -P "$(nproc)" -I{} sh -c 'cd "$1" && shift && out=$1/$(basename "$2" .c).o && file=$2 \
        && shift 2 && exec "$@" -c -o "$out" "$file"' compile "$folder" "$objects" {} \
        "${compiler[@]}" -w -std=gnu11 -nostdinc -isystem "$sysroot/include" \
        -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables -fstack-protector-strong \
        -fno-pie "${flags[@]}" || fail "$name does not compile for $gnu"
    "$swift_root/bin/llvm-ar" rcs "$sysroot/lib/lib$name.a" "$objects"/*.o
    rm -rf "$objects"
}

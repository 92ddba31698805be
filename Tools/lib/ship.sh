# How executables are built as they ship: SwiftPM compiles the rooms as Embedded Swift to LLVM's assembly, which is optimised
# as a whole and linked here, by lld, with musl and the foreign libraries that foreign.sh puts into a sysroot under .build.
# Sourced by bash after common.sh, never run.
source "$(dirname "${BASH_SOURCE[0]}")/foreign.sh"

# The rooms of the library from the top of the house down. Of a function of which several rooms have a copy the linker takes
# the first that it meets, and the upper rooms are compiled for size.
from_the_top="Agent Delivery Collection Governance Monitoring Serving Activation Unification CEL Store Cryptography HTTP
    Formats Platform CPlatform CMbedTLS CYAML CConsole"

# What decisions and events pass through. In all other rooms, instructions that several functions have in a row become one
# function: that saves 60 KB, and would cost a decision an eighth more time in these.
hot_rooms=" Cryptography HTTP Store CEL Formats Serving Activation Unification Governance Collection Platform "

# What is machine code before it is linked: inlined into other rooms, the virtual machine and the readers would be 50 KB more.
fast_rooms=" CEL Formats "

# What no decision and no event passes through in those, by the names of its symbols: the readers of plans, CEL's compiler.
# Made weak there, it is taken from the copy of an upper room, which is compiled for size.
rarely_called=(
    '$e*10PlanReader*' '$e*0[A-Z]6ReaderV*' '$e*11PlanProblem*' '$e11Unification5Draft*' '$e7Formats11YAMLBuilder*'
    '$e3CEL5Lexer*' '$e3CEL6Parser*' '$e3CEL7Checker*' '$e3CEL8Compiler*' '$e3CEL12CompileError*' '$e3CEL11Environment*'
    '$e3CEL17PatternTranslator*' '$e3CEL13PatternParser*' '$e3CEL11PatternSets*' '$e3CEL17UnicodeCategories*'
    '$e3CEL14BatchEvaluator*' '$e3CEL13BatchBindings*' '$e7Serving11RecordClerk*' '$e12Cryptography10TLSSession*'
    '$e10Activation*PlanReader*' '$e10Activation15TreeModelReader*' '$e10Activation9FlatTrees*' '$e10Activation6PolicyC*'
    '$e10Activation7DeciderV16writeConclusions*' '$e12Cryptography22TLSServerConfiguration*' '$e12Cryptography8TLSError*' '$e5Store0A5Error*' '$e8Platform11SystemError*'
)

# current_objects FOLDER PRODUCT : the objects of an executable and of the rooms in `rooms` (all, if that is not set), but
# only of sources that exist. An earlier build may have left others, and rooms that this executable does not use may be
# older than those that it does.
current_objects() {
    local object room source
    for room in "$2" $from_the_top; do
        [[ $room = "$2" || -z ${rooms:-} || " $rooms " == *" $room "* ]] || continue
        for object in "$1/$room.build"/*.o; do
            source=$(basename "$object" .o)
            [ -f "Sources/$room/$source" ] || [ -f "Tools/lib/bench/$room/$source" ] || continue
            printf '%s\n' "$object"
        done
    done
}

# target NAME : sets triple, gnu and debian, the names that Swift, gcc and Debian have for an architecture, and
# instructions, what clang and gcc are told besides. In Thumb code an armv7 binary is a third smaller.
target() {
    instructions=()
    case $1 in
        x86_64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu debian=amd64 ;;
        aarch64) triple=aarch64-none-none-elf gnu=aarch64-linux-gnu debian=arm64 ;;
        armv7) triple=armv7-none-none-eabi gnu=arm-linux-gnueabi debian=armel instructions=(-mthumb) ;;
    esac
}

# prepare NAME : what the build of an architecture needs.
prepare() {
    local triple gnu debian instructions
    target "$1"
    install_debian dpkg-dev gcc libc6-dev
    [ "$1" = x86_64 ] || install_debian "gcc-$gnu"
    make_sysroot "$debian" "$gnu"
}

strip_of() { target "$1"; printf '%s-strip' "$gnu"; }

# pack_console FOLDER : the files of the console there, packed: a third of their size. One that is the same stays untouched.
pack_console() {
    local file packed
    mkdir -p "$1"
    for file in Sources/CConsole/console.{html,css,js}; do
        packed="$1/$(basename "$file").gz"
        gzip -9 -n -c "$file" >"$packed.new"
        if cmp -s "$packed.new" "$packed"; then rm "$packed.new"; else mv "$packed.new" "$packed"; fi
    done
}

# compile NAME PRODUCT [LINKED...] : .build/NAME/PRODUCT, an executable of the package, not stripped; with what else is to
# be linked.
compile() {
    local name=$1 product=$2 triple gnu debian instructions
    shift 2
    target "$name"
    local sysroot="$top/.build/sysroot/$debian"
    local flag swift_list="" c_list=""
    local c_flags=(-D__linux__ -fno-stack-protector -nostdlibinc -isystem "$sysroot/include" "${instructions[@]}")
    pack_console ".build/$name/console"
    for flag in "${c_flags[@]}"; do
        swift_list+="${swift_list:+, }\"-Xcc\", \"$flag\""
        c_list+="${c_list:+, }\"$flag\""
    done
    c_list+=", \"--embed-dir=$top/.build/$name/console\""
    printf '{"schemaVersion": "1.0", "swiftCompiler": {"extraCLIOptions": [%s]}, "cCompiler": {"extraCLIOptions": [%s]}}\n' \
        "$swift_list" "$c_list" >".build/toolset-$name.json"
    GATEHOUSE_EMBEDDED=1 swift build -c release --omit-frame-pointers --target "$product" --scratch-path ".build/$name" \
        --triple "$triple" --toolset ".build/toolset-$name.json" 2>&1 \
        | { grep --line-buffered -v "warning: libc not found" || true; } >&2
    local object out lean=() weaker=("${rarely_called[@]/#/--weaken-symbol=}")
    mkdir -p ".build/$name/lean"
    while read -r object; do
        out=".build/$name/lean/${#lean[@]}-$(basename "$object")"
        assemble "$(basename "$(dirname "$object")" .build)" "$object" "$out"
        [ ! -f "$out" ] || lean+=("$out")
    done < <(current_objects ".build/$name/$triple/release" "$product")
    # The tables for unwinding a stack would be 50 KiB, and nothing here unwinds one.
    "$gnu-gcc" -nostdlib -static -no-pie -fuse-ld=lld -B "$swift_root/bin" \
        -Wl,-O2 -Wl,--gc-sections -Wl,--icf=all -Wl,-z,relro,-z,now,-z,noexecstack -Wl,-T,"$top/Tools/lib/no-unwinding.ld" \
        -Wl,--lto-O2 -Wl,--lto-CGO2 -Wl,-mllvm,-enable-machine-outliner=always -o ".build/$name/$product" \
        "$sysroot/lib/crt1.o" "$sysroot/lib/crti.o" "${lean[@]}" "$@" \
        -L "$swift_root/lib/swift/embedded/$triple" -L "$sysroot/lib" -lswiftUnicodeDataTables \
        -llmdb -lmbedtls -lyaml -lz -lc "$("$gnu-gcc" -print-libgcc-file-name)" "$sysroot/lib/crtn.o"
}

# assemble ROOM OBJECT OUT : what the linker takes of what SwiftPM made: bitcode, machine code for a fast room, or C's object as
# it is. Nothing comes out of a source that its room's first object contains.
assemble() {
    local lower=("$swift_root/bin/clang" --target="$triple" "${instructions[@]}" -x ir -O2 -Xclang -disable-llvm-passes -c)
    rm -f "$3"
    if ! head -c 10 "$2" | grep -q ModuleID; then
        cp "$2" "$3"
    elif ! grep -q -m 1 '^define' "$2"; then
        return
    elif [[ $fast_rooms = *" $1 "* ]]; then
        "${lower[@]}" -ffunction-sections -fdata-sections "$2" -o "$3"
        "$gnu-objcopy" --wildcard "${weaker[@]}" "$3"
    elif [[ $hot_rooms = *" $1 "* ]]; then
        sed 's/^attributes #[0-9]* = {/& "nooutline"/' "$2" | "${lower[@]}" -flto -emit-llvm - -o "$3"
    else
        "${lower[@]}" -flto -emit-llvm "$2" -o "$3"
    fi
}

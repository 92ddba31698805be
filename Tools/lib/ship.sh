# How executables are built as they ship: SwiftPM compiles the rooms as Embedded Swift to LLVM's assembly, which is optimised
# as a whole and linked here, by lld, with musl and the foreign libraries that foreign.sh puts into a sysroot under .build.
# Sourced by bash after common.sh, never run.
source "$(dirname "${BASH_SOURCE[0]}")/foreign.sh"

# The rooms of the library from the top of the house down. Of a function of which several rooms have a copy the linker takes
# the first that it meets, and the upper rooms are compiled for size.
from_the_top="Agent Delivery Collection Governance Monitoring Serving Activation Unification CEL Store Cryptography HTTP
    Formats Platform CPlatform CMbedTLS CYAML CConsole"

# What decisions and events spend their time in, by the names of symbols: optimised for speed. All other functions are for
# size, and instructions that several of them have in a row become one function. Found by `perf` under `Tools/bench http` and
# `ingest`; a tenth of the code.
hot_functions='(10Activation(7DeciderV(18writeCircumstances|4read|5match|6decide|8evaluate|4keep)'\
'|12DecisionPlanV5index)|10Collection(10MessageKeyV|16SchemaEvaluationV|9EventRuleVWO)'\
'|10Governance13ConsentRecordO8applying|10Monitoring9HistogramC6record|11Unification(10NormalizerV|11ProfileViewV'\
'|12ProfileIndexV|12RecordWriter|13IdentifierKeyV|13IdentityGraphO6person|13NobodysValuesO|13appendLowered'\
'|14AttributeStateO(5merge|9insertKey|13mergeElements|12hasNewerTwin)|14EventSanitizerO|14IdentifierPathV4find'\
'|14ProfileUpdaterV|14RecordChecksumO|15AttributeReaderV|16DecisionBindingsV|16IdentifierFinderV'\
'|20appendTrimmedLowered|6ScalarO|7trimmed|8ExactSumV|9AttributeVWO|9wipeBytes)|12Cryptography(10HMACSHA256V'\
'|9Digest256V)|3CEL(4HeapV|4KindO|5ValueV|7MachineV(4look|6number|6resume|7compare|8listBits|6forget|5equal'\
'|12listContains|6lookup|9nextEntry|9beginLoop|5index|6binary|4call|10arithmetic|4size|7matches|5value|4real)'\
'|7ProgramV|9DocumentsV|9EvaluatorV|7MatcherV)|4HTTP|5Store(12ChangedPages|16WriteTransactionV3put|6ReaderV3get'\
'|8ChecksumO|8LogEntryO|9ProfileIDV)|7Formats(10JSONWriterV|11JSONBuilderV|12JSONDocumentV|9CivilTimeV|9TimestampO)'\
'|7Serving(12ServerThreadCAARi_zrlE(10beginGroup|11requestEnds|11takeRequest|12processInput|3run|4read|4take|5flush'\
'|5token|6handle|6settle|7account|7process|8dispatch|8endGroup|8takeBody|9parseHead)|13EventPreparerV'\
'|19ConnectionTransportV|6RoutesV(6handle|7mayGoOn)|8ResponseV)|8Platform7receive|5Agent8PipelineV(4take|6encode'\
'|7compute)|Sa(034_make|11Unification|15replaceSubrange|36_reserve|6append|7Formats)'\
'|Sp14moveInitialize4from5countySpyxG_SitFs5UInt8V|s4SpanV4HTTP)'

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
# instructions, what clang and gcc are told besides, and outlining, what makes one function of instructions that several have.
# In Thumb code an armv7 binary is a third smaller; outlined, it is wrong.
target() {
    instructions=()
    outlining=(-Wl,-mllvm,-enable-machine-outliner=always -Wl,-mllvm,-machine-outliner-reruns=3)
    case $1 in
        x86_64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu debian=amd64 ;;
        aarch64) triple=aarch64-none-none-elf gnu=aarch64-linux-gnu debian=arm64 ;;
        armv7) triple=armv7-none-none-eabi gnu=arm-linux-gnueabi debian=armel instructions=(-mthumb) outlining=() ;;
    esac
}

# prepare NAME : what the build of an architecture needs.
prepare() {
    local triple gnu debian instructions outlining
    target "$1"
    install_debian dpkg-dev gcc libc6-dev
    [ "$1" = x86_64 ] || install_debian "gcc-$gnu"
    make_sysroot "$debian" "$gnu"
}

strip_of() { target "$1"; printf '%s-strip' "$gnu"; }

# pack FOLDER : what C's sources embed, there: the files of the console in a third of their size, without indentation and lines
# that are comments, and Unicode's categories and small letters. What is the same stays untouched.
pack() {
    local file tables="$swift_root/lib/swift/embedded/x86_64-unknown-linux-gnu"
    mkdir -p "$1"
    for file in Sources/CConsole/console.{html,css,js}; do
        sed -E 's/^[ \t]+//; /^\/\/|^\/\*.*\*\/$|^$/d' "$file" | gzip -9 -n -c | keep "$1/$(basename "$file").gz"
    done
    for file in categories lowercase; do
        gcc -O2 -o "$1/$file" "Tools/lib/$file.c" -L "$tables" -lswiftUnicodeDataTables
        "$1/$file" | keep "$1/$file.bin"
    done
}

# keep FILE : standard input as that file, untouched if it is the same already.
keep() {
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

# compile NAME PRODUCT [LINKED...] : .build/NAME/PRODUCT, an executable of the package, not stripped; with what else is to
# be linked.
compile() {
    local name=$1 product=$2 triple gnu debian instructions outlining
    shift 2
    target "$name"
    local sysroot="$top/.build/sysroot/$debian"
    local flag swift_list="" c_list=""
    local c_flags=(-D__linux__ -fno-stack-protector -nostdlibinc -isystem "$sysroot/include" "${instructions[@]}")
    pack ".build/$name/embedded"
    for flag in "${c_flags[@]}"; do
        swift_list+="${swift_list:+, }\"-Xcc\", \"$flag\""
        c_list+="${c_list:+, }\"$flag\""
    done
    c_list+=", \"--embed-dir=$top/.build/$name/embedded\""
    printf '{"schemaVersion": "1.0", "swiftCompiler": {"extraCLIOptions": [%s]}, "cCompiler": {"extraCLIOptions": [%s]}}\n' \
        "$swift_list" "$c_list" >".build/toolset-$name.json"
    GATEHOUSE_EMBEDDED=1 swift build -c release --omit-frame-pointers --target "$product" --scratch-path ".build/$name" \
        --triple "$triple" --toolset ".build/toolset-$name.json" 2>&1 \
        | { grep --line-buffered -v "warning: libc not found" || true; } >&2
    local object out assembled=()
    mkdir -p ".build/$name/assembled"
    while read -r object; do
        out=".build/$name/assembled/${#assembled[@]}-$(basename "$object")"
        assemble "$object" "$out"
        [ ! -f "$out" ] || assembled+=("$out")
    done < <(current_objects ".build/$name/$triple/release" "$product")
    # Where Swift and we both have something, ours counts.
    "$gnu-objcopy" --weaken-symbol=_swift_stdlib_getGeneralCategory --weaken-symbol=_swift_stdlib_getMapping \
        --weaken-symbol=_swift_stdlib_getSpecialMapping \
        "$swift_root/lib/swift/embedded/$triple/libswiftUnicodeDataTables.a" ".build/$name/libswiftUnicodeDataTables.a"
    # The tables for unwinding a stack would be 50 KiB, and nothing here unwinds one. A function of more than a hundred
    # instructions stays one of its own also where it is called once: what has grown together keeps everything on a stack so
    # large that each access takes eight bytes, 27 KiB of them.
    # A build's identifier would be made of that folder's name too, which stands in what strip takes away.
    "$gnu-gcc" -nostdlib -static -no-pie -Wl,--build-id=none -fuse-ld=lld -B "$swift_root/bin" \
        -Wl,-O2 -Wl,--gc-sections -Wl,--icf=all -Wl,-z,relro,-z,now,-z,noexecstack -Wl,-T,"$top/Tools/lib/no-unwinding.ld" \
        -Wl,--lto-O2 -Wl,--lto-CGO2 -Wl,-mllvm,-inline-threshold=-20 -Wl,-mllvm,-inline-instr-cost=150 \
        -Wl,-mllvm,-inlinehint-threshold=3000 \
        "${outlining[@]}" -o ".build/$name/$product" \
        "$sysroot/lib/crt1.o" "$sysroot/lib/crti.o" "${assembled[@]}" "$@" \
        -L ".build/$name" -L "$sysroot/lib" -lswiftUnicodeDataTables \
        -llmdb -lmbedtls -lyaml -lz -lc "$("$gnu-gcc" -print-libgcc-file-name)" "$sysroot/lib/crtn.o"
}

# assemble OBJECT OUT : what the linker takes of what SwiftPM made: bitcode, or C's object as it is. Nothing comes out of a
# source that its room's first object contains. Each group of attributes is there a second time, for hot functions, which
# become part of one another up to some twenty instructions (inlinehint), and never of those for size. As in the C of our
# own, no function guards its stack by a canary: Swift checks the bounds of what it writes there, and 500 guards take 13 KiB.
# The foreign libraries have theirs.
assemble() {
    rm -f "$2"
    if ! head -c 10 "$1" | grep -q ModuleID; then
        cp "$1" "$2"
    elif grep -q -m 1 '^define' "$1"; then
        sed -E -e "/^define .*@\"?\\\$e$hot_functions/ s/ #([0-9]+)( |\$)/ #90000\1\2/" \
            -e '/^attributes #/ {s/ sspreq / /; p; s/#/#90000/; s/ (minsize|optsize)//g; s/\{/{ inlinehint "nooutline"/}' "$1" \
            | "$swift_root/bin/clang" --target="$triple" "${instructions[@]}" -x ir -O2 -Xclang -disable-llvm-passes \
                -flto -emit-llvm -c - -o "$2"
    fi
}

// The table of functions: names, how they are called, and their types. It need not know what they do: `Calls.swift`.
//
// A signature is a text such as `s s > b`: a letter for each parameter, the receiver first, then the result.
//   N null  b bool  i int  u uint  d double  s string  y bytes  t timestamp  n duration  T type  p ip  c cidr
//   D dyn  A B type variables  L… list of …  M……  map of … to …  O… optional of …

/// Every function of the language and its extensions.
enum Function: UInt8 {
    case size, type, dyn, int, uint, double, string, bytes, bool, timestamp, duration
    case contains, startsWith, endsWith, matches
    case getFullYear, getMonth, getDate, getDayOfMonth, getDayOfWeek, getDayOfYear
    case getHours, getMinutes, getSeconds, getMilliseconds
    case charAt, indexOf, lastIndexOf, lowerAscii, upperAscii, replace, split, substring, trim, join, reverse, format
    case quote, base64Encode, base64Decode
    case greatest, least, ceil, floor, round, trunc, abs, sign, sqrt, isNaN, isInf, isFinite
    case bitAnd, bitOr, bitXor, bitNot, bitShiftLeft, bitShiftRight
    case optionalOf, optionalOfNonZero, optionalNone, hasValue, value, or, orValue
    case ip, cidr, isIP, isCIDR, isCanonical, family, isUnspecified, isLoopback, isGlobalUnicast
    case isLinkLocalMulticast, isLinkLocalUnicast, containsIP, containsCIDR, cidrIP, masked, prefixLength
}

struct FunctionEntry {
    let name: StaticString
    let function: Function
    /// The first parameter is written before a dot.
    let isMember: Bool
    /// Overloads, separated by commas.
    let signatures: StaticString

    init(_ name: StaticString, _ function: Function, _ signatures: StaticString, member: Bool = false) {
        self.name = name
        self.function = function
        self.isMember = member
        self.signatures = signatures
    }
}

enum FunctionTable {
    static let entries: [FunctionEntry] = [
        FunctionEntry("size", .size, "s>i,y>i,LA>i,MAB>i"),
        FunctionEntry("size", .size, "s>i,y>i,LA>i,MAB>i", member: true),
        FunctionEntry("type", .type, "A>T"),
        FunctionEntry("dyn", .dyn, "A>D"),
        FunctionEntry("int", .int, "i>i,u>i,d>i,s>i,t>i,n>i"),
        FunctionEntry("uint", .uint, "u>u,i>u,d>u,s>u"),
        FunctionEntry("double", .double, "d>d,i>d,u>d,s>d"),
        FunctionEntry("string", .string, "s>s,i>s,u>s,d>s,b>s,y>s,t>s,n>s,p>s,c>s"),
        FunctionEntry("bytes", .bytes, "y>y,s>y"),
        FunctionEntry("bool", .bool, "b>b,s>b"),
        FunctionEntry("timestamp", .timestamp, "t>t,s>t,i>t"),
        FunctionEntry("duration", .duration, "n>n,s>n,i>n"),
        FunctionEntry("contains", .contains, "ss>b", member: true),
        FunctionEntry("startsWith", .startsWith, "ss>b", member: true),
        FunctionEntry("endsWith", .endsWith, "ss>b", member: true),
        FunctionEntry("matches", .matches, "ss>b", member: true),
        FunctionEntry("matches", .matches, "ss>b"),
        FunctionEntry("getFullYear", .getFullYear, "t>i,ts>i", member: true),
        FunctionEntry("getMonth", .getMonth, "t>i,ts>i", member: true),
        FunctionEntry("getDate", .getDate, "t>i,ts>i", member: true),
        FunctionEntry("getDayOfMonth", .getDayOfMonth, "t>i,ts>i", member: true),
        FunctionEntry("getDayOfWeek", .getDayOfWeek, "t>i,ts>i", member: true),
        FunctionEntry("getDayOfYear", .getDayOfYear, "t>i,ts>i", member: true),
        FunctionEntry("getHours", .getHours, "t>i,ts>i,n>i", member: true),
        FunctionEntry("getMinutes", .getMinutes, "t>i,ts>i,n>i", member: true),
        FunctionEntry("getSeconds", .getSeconds, "t>i,ts>i,n>i", member: true),
        FunctionEntry("getMilliseconds", .getMilliseconds, "t>i,ts>i,n>i", member: true),
        FunctionEntry("charAt", .charAt, "si>s", member: true),
        FunctionEntry("indexOf", .indexOf, "ss>i,ssi>i", member: true),
        FunctionEntry("lastIndexOf", .lastIndexOf, "ss>i,ssi>i", member: true),
        FunctionEntry("lowerAscii", .lowerAscii, "s>s", member: true),
        FunctionEntry("upperAscii", .upperAscii, "s>s", member: true),
        FunctionEntry("replace", .replace, "sss>s,sssi>s", member: true),
        FunctionEntry("split", .split, "ss>Ls,ssi>Ls", member: true),
        FunctionEntry("substring", .substring, "si>s,sii>s", member: true),
        FunctionEntry("trim", .trim, "s>s", member: true),
        FunctionEntry("join", .join, "Ls>s,Lss>s", member: true),
        FunctionEntry("reverse", .reverse, "s>s", member: true),
        FunctionEntry("format", .format, "sLD>s", member: true),
        FunctionEntry("strings.quote", .quote, "s>s"),
        FunctionEntry("base64.encode", .base64Encode, "y>s"),
        FunctionEntry("base64.decode", .base64Decode, "s>y"),
        FunctionEntry("math.greatest", .greatest, ""),
        FunctionEntry("math.least", .least, ""),
        FunctionEntry("math.ceil", .ceil, "d>d"),
        FunctionEntry("math.floor", .floor, "d>d"),
        FunctionEntry("math.round", .round, "d>d"),
        FunctionEntry("math.trunc", .trunc, "d>d"),
        FunctionEntry("math.abs", .abs, "i>i,u>u,d>d"),
        FunctionEntry("math.sign", .sign, "i>i,u>u,d>d"),
        FunctionEntry("math.sqrt", .sqrt, "d>d,i>d,u>d"),
        FunctionEntry("math.isNaN", .isNaN, "d>b"),
        FunctionEntry("math.isInf", .isInf, "d>b"),
        FunctionEntry("math.isFinite", .isFinite, "d>b"),
        FunctionEntry("math.bitAnd", .bitAnd, "ii>i,uu>u"),
        FunctionEntry("math.bitOr", .bitOr, "ii>i,uu>u"),
        FunctionEntry("math.bitXor", .bitXor, "ii>i,uu>u"),
        FunctionEntry("math.bitNot", .bitNot, "i>i,u>u"),
        FunctionEntry("math.bitShiftLeft", .bitShiftLeft, "ii>i,ui>u"),
        FunctionEntry("math.bitShiftRight", .bitShiftRight, "ii>i,ui>u"),
        FunctionEntry("optional.of", .optionalOf, "A>OA"),
        FunctionEntry("optional.ofNonZeroValue", .optionalOfNonZero, "A>OA"),
        FunctionEntry("optional.none", .optionalNone, ">OD"),
        FunctionEntry("hasValue", .hasValue, "OA>b", member: true),
        FunctionEntry("value", .value, "OA>A", member: true),
        FunctionEntry("or", .or, "OAOA>OA", member: true),
        FunctionEntry("orValue", .orValue, "OAA>A", member: true),
        FunctionEntry("ip", .ip, "s>p,p>p"),
        FunctionEntry("cidr", .cidr, "s>c,c>c"),
        FunctionEntry("isIP", .isIP, "s>b"),
        FunctionEntry("isCIDR", .isCIDR, "s>b"),
        FunctionEntry("ip.isCanonical", .isCanonical, "s>b"),
        FunctionEntry("family", .family, "p>i", member: true),
        FunctionEntry("isUnspecified", .isUnspecified, "p>b", member: true),
        FunctionEntry("isLoopback", .isLoopback, "p>b", member: true),
        FunctionEntry("isGlobalUnicast", .isGlobalUnicast, "p>b", member: true),
        FunctionEntry("isLinkLocalMulticast", .isLinkLocalMulticast, "p>b", member: true),
        FunctionEntry("isLinkLocalUnicast", .isLinkLocalUnicast, "p>b", member: true),
        FunctionEntry("containsIP", .containsIP, "cp>b,cs>b", member: true),
        FunctionEntry("containsCIDR", .containsCIDR, "cc>b,cs>b", member: true),
        FunctionEntry("ip", .cidrIP, "c>p", member: true),
        FunctionEntry("masked", .masked, "c>c", member: true),
        FunctionEntry("prefixLength", .prefixLength, "c>i", member: true),
    ]

    static func find(_ name: [UInt8], isMember: Bool) -> FunctionEntry? {
        for entry in entries where entry.isMember == isMember && bytesEqual(name, entry.name) { return entry }
        return nil
    }

    /// Type signatures of operators, by `Operator`; equality and order are the checker's own.
    static func signatures(of symbol: Operator) -> StaticString {
        switch symbol {
        case .add: "ii>i,uu>u,dd>d,ss>s,yy>y,LALA>LA,tn>t,nt>t,nn>n"
        case .subtract: "ii>i,uu>u,dd>d,tt>n,tn>t,nn>n"
        case .multiply, .divide: "ii>i,uu>u,dd>d"
        case .remainder: "ii>i,uu>u"
        case .not: "b>b"
        case .negate: "i>i,d>d,n>n"
        default: ""
        }
    }

    /// Names of types as values, with the kind that each stands for.
    static let typeNames: [(name: StaticString, kind: Kind)] = [
        ("bool", .bool), ("int", .int), ("uint", .uint), ("double", .double), ("string", .string), ("bytes", .bytes),
        ("list", .list), ("map", .map), ("null_type", .null), ("type", .type),
        ("google.protobuf.Timestamp", .timestamp), ("google.protobuf.Duration", .duration),
        ("optional_type", .optional), ("net.IP", .ip), ("net.CIDR", .cidr),
    ]

    static func typeName(_ kind: Kind) -> StaticString {
        for entry in typeNames where entry.kind == kind { return entry.name }
        return "error"
    }
}

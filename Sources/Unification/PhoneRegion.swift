// What a telephone number written for one country needs to become an international one (ITU-T E.164). It need not
// know why a number is normalised, nor which numbers exist: that would take a table a hundred times as large.

import Formats

/// A country's calling code and the digits that people dial before national and international numbers.
///
/// Sources: ITU-T E.164 list of assigned country codes; ITU Operational Bulletin, "Dialling procedures" (trunk and
/// international prefixes).
public struct PhoneRegion: Equatable {
    /// For example 49, one to three digits.
    let callingCode: UInt16
    /// ASCII digits before a national number, packed big-endian; 0 for none. Germany "0", Hungary "06", Russia "8".
    let trunkPrefix: UInt32
    /// ASCII digits before an international number, packed big-endian: "00", in North America "011".
    let internationalPrefix: UInt32

    /// The region of an ISO 3166-1 alpha-2 code in upper case; nil for an unknown one.
    public init?(_ code: Span<UInt8>) {
        if code.count != 2 { return nil }
        let table = PhoneRegion.table.bytes
        var position = 0
        while position + 2 < table.count {
            if table[position] == code[0], table[position + 1] == code[1] {
                self.init(table, position + 2)
                return
            }
            while position < table.count, table[position] != UInt8(ascii: " ") { position += 1 }
            position += 1
        }
        return nil
    }

    /// Reads an entry of the table behind its two letters.
    private init(_ table: Span<UInt8>, _ start: Int) {
        var position = start
        var code: UInt16 = 0
        while position < table.count, isDigit(table[position]) {
            code = code * 10 + UInt16(table[position] - UInt8(ascii: "0"))
            position += 1
        }
        var prefixes: (UInt32, UInt32) = (0x30, 0x3030)
        if position < table.count, table[position] == UInt8(ascii: ".") {
            prefixes.0 = PhoneRegion.packed(table, &position)
            if position < table.count, table[position] == UInt8(ascii: ".") {
                prefixes.1 = PhoneRegion.packed(table, &position)
            }
        }
        callingCode = code
        trunkPrefix = prefixes.0
        internationalPrefix = prefixes.1
    }

    private static func packed(_ table: Span<UInt8>, _ position: inout Int) -> UInt32 {
        var value: UInt32 = 0
        position += 1
        while position < table.count, isDigit(table[position]) || table[position] == UInt8(ascii: "-") {
            if isDigit(table[position]) { value = value << 8 | UInt32(table[position]) }
            position += 1
        }
        return value
    }

    /// `XX` calling code, then `.trunk` when it is not 0 (`-`: none), then `.international` when it is not 00.
    private static let table: StaticString = """
        AC247.- AD376.- AE971 AF93 AG1.1.011 AI1.1.011 AL355 AM374 AO244.- AR54 AS1.1.011 AT43 AU61.0.0011 AW297.- \
        AX358 AZ994 BA387 BB1.1.011 BD880 BE32 BF226.- BG359 BH973.- BI257.- BJ229.- BL590 BM1.1.011 BN673.- BO591 \
        BQ599.- BR55 BS1.1.011 BT975.- BW267.- BY375.8.810 BZ501.- CA1.1.011 CC61.0.0011 CD243 CF236.- CG242.- CH41 \
        CI225.- CK682.- CL56.- CM237.- CN86 CO57.- CR506.- CU53.0.119 CV238.- CW599.- CX61.0.0011 CY357.- CZ420.- \
        DE49 DJ253.- DK45.- DM1.1.011 DO1.1.011 DZ213 EC593 EE372.- EG20 EH212 ER291 ES34.- ET251 FI358 FJ679.- \
        FK500.- FM691.- FO298.- FR33 GA241 GB44 GD1.1.011 GE995 GF594 GG44 GH233 GI350.- GL299.- GM220.- GN224.- \
        GP590 GQ240.- GR30.- GT502.- GU1.1.011 GW245.- GY592.-.001 HK852.-.001 HN504.- HR385 HT509.- HU36.06 \
        ID62.0.001 IE353 IL972 IM44 IN91 IO246.- IQ964 IR98 IS354.- IT39.- JE44 JM1.1.011 JO962 JP81.0.010 \
        KE254.0.000 KG996 KH855.0.001 KI686.- KM269.- KN1.1.011 KP850 KR82.0.001 KW965.- KY1.1.011 KZ7.8.810 LA856 \
        LB961 LC1.1.011 LI423.- LK94 LR231 LS266.- LT370 LU352.- LV371.- LY218 MA212 MC377 MD373 ME382 MF590 MG261 \
        MH692.1.011 MK389 ML223.- MM95 MN976.0.001 MO853.- MP1.1.011 MQ596 MR222.- MS1.1.011 MT356.- MU230.- MV960.- \
        MW265 MX52.- MY60 MZ258.- NA264 NC687.- NE227.- NF672.- NG234.0.009 NI505.- NL31 NO47.- NP977 NR674.- \
        NU683.- NZ64 OM968.- PA507.- PE51 PF689.- PG675.- PH63 PK92 PL48.- PM508 PR1.1.011 PS970 PT351.- PW680.-.011 \
        PY595 QA974.- RE262 RO40 RS381 RU7.8.810 RW250 SA966 SB677.- SC248.- SD249 SE46 SG65.-.001 SH290.- SI386 \
        SJ47.- SK421 SL232 SM378.- SN221.- SO252 SR597.- SS211 ST239.- SV503.- SX1.1.011 SY963 SZ268.- TA290.- \
        TC1.1.011 TD235.- TG228.- TH66.0.001 TJ992.-.810 TK690.- TL670.- TM993.8.810 TN216.- TO676.- TR90 TT1.1.011 \
        TV688.- TW886.0.002 TZ255.0.000 UA380 UG256.0.000 US1.1.011 UY598 UZ998.- VA39.- VC1.1.011 VE58 VG1.1.011 \
        VI1.1.011 VN84 VU678.- WF681.- WS685.- XK383 YE967 YT262 ZA27 ZM260 ZW263
        """
}

@inline(__always)
func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

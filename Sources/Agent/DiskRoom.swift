// What a transaction may take at the disk limit (promise P6): events are refused while there is still room, and what is left
// is for privacy work, which is never shed, and for trimming, which makes room again.

import Platform
import Serving
import Store

/// The pages that the store can still take, as of one transaction.
struct DiskRoom {
    /// Counted no further than `enough`.
    private let pages: Int
    private let reserve: Int
    private let enough: Int
    /// With so few pages or fewer, events that every destination has are not kept on.
    private let few: Int

    /// There is none: for another try at what is not an event.
    static let none = DiskRoom(pages: 0, reserve: 0, few: 0)

    private init(pages: Int, reserve: Int, few: Int) {
        self.pages = pages
        self.few = few
        self.reserve = reserve
        enough = reserve + Limits.pagesInPlenty
    }

    init(_ database: Database) throws(StoreError) {
        // A store that is hardly larger than the reserve keeps an eighth.
        let reserve = min(Limits.reservedPages, Int(database.mapBytes >> 15))
        let enough = reserve + Limits.pagesInPlenty
        // A quarter of a small store.
        let few = min(enough - 1, Int(database.mapBytes >> 14))
        var pages = try database.freePages(atMost: enough)
        // A free page may be a hole: where others have filled the disk, what is left is for privacy work.
        if database.hasHoles, Files.freeBytes(database.path) ?? 0 < Limits.spareBytes { pages = min(pages, reserve) }
        self.init(pages: pages, reserve: reserve, few: few)
    }

    private var events: Int {
        pages >= enough ? Limits.eventsPerCommit : max(0, (pages - reserve) / Limits.pagesPerEvent)
    }

    /// Whether there is room for an event.
    var takesEvents: Bool { events > 0 }

    /// Whether what need not be there has to go.
    var isShort: Bool { pages <= few }

    /// Events and calls that one transaction takes.
    var budget: Int { takesEvents ? events : Limits.callsPerFullCommit }

    /// Whether events make room for others: what is left is hardly more than the reserve, and events shall still fit.
    var isTight: Bool { pages <= reserve + (few - reserve) / 2 }

    /// How many entries one transaction may change, each a page or a few.
    func changes(atMost most: Int) -> Int {
        pages >= enough ? most : max(2, min(most, (pages - reserve) / 4))
    }
}

extension Work {
    /// Whether it is refused when there is room for privacy work only.
    var waitsForRoom: Bool {
        switch self {
        case .events, .decide, .arrivals, .release: true
        default: false
        }
    }
}

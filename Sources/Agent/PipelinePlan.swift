// Where the journey of an event meets the tracking plan beyond its schema: what is mended before it begins, and what is
// observed of it.

import Collection
import Formats

extension Pipeline {
    /// Gives the fields of an event that come under an old name the new one.
    /// - Returns: false, and nothing done, for an event without such fields; else the event is in `mender`.
    mutating func mend(_ document: borrowing JSONDocument, _ message: JSONNode, _ type: EventType?) -> Bool {
        mender.mend(document, message, type, bundle.tracking)
    }

    /// The same for an event that comes out of quarantine, in `body` and `kept`: the plan may have learnt since.
    mutating func mendKept() {
        while true {
            let document = kept
            guard mend(document, document.root, nil) else { return }
            let mended = mender.document
            body.clear()
            body.raw(mended.source(mended.root))
            kept = mended
        }
    }
}

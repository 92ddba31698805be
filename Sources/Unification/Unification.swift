// The third layer: identifiers become hashes, hashes become people, events become profile attributes.

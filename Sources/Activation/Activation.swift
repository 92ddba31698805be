// The fourth layer: audiences and decisions by the rules of the bundle.

import WALStorage

/// Mistakes that can be switched on in the engine, by name, to see whether the simulator finds them.
public enum Bug {
    /// The names of all of them. Empty in a build without the trait `Simulation`.
    public static var names: [String] {
        #if Simulation
            DeliberateBug.allCases.map(\.rawValue)
        #else
            []
        #endif
    }

    /// Switches one on for the whole process, before any history is run; nil switches all off. Returns whether there
    /// is one of that name.
    public static func activate(_ name: String?) -> Bool {
        #if Simulation
            DeliberateBug.active = name.flatMap(DeliberateBug.init)
            return name == nil || DeliberateBug.active != nil
        #else
            return name == nil
        #endif
    }
}

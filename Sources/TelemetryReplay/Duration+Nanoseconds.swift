extension Duration {
    /// In nanoseconds, as far as they fit.
    var nanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if overflows { return seconds < 0 ? .min : .max }
        let (sum, exceeds) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
        return exceeds ? (seconds < 0 ? .min : .max) : sum
    }
}

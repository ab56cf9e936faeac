/// Why telemetry could not be read, and where. The description is one line for the user that ends with what to do.
package struct OTLPInputError: Error, Sendable, CustomStringConvertible {
    /// What is wrong, in classes that ask for the same remedy.
    package enum Reason: Sendable, Equatable, CaseIterable {
        /// The input ends in the middle of a message.
        case truncated
        /// A message does not follow its format.
        case malformed
        /// A message is longer than the parser may keep, or would become too much memory.
        case tooLong
        /// The format cannot be told from the first bytes.
        case unknownFormat
        /// The bytes of a request do not show which signal it carries.
        case unknownSignal
        /// A trace or span ID in JSON is neither hex nor unmistakably base64.
        case invalidIdentifier
    }

    /// Counts from 1: lines in text formats, length-prefixed messages in binary ones.
    package enum Place: Sendable, Equatable {
        case line(Int)
        case message(Int)
    }

    package var reason: Reason

    /// What was found, without place and remedy.
    package var detail: String

    /// Where in the input the message starts that is at fault, in bytes; nil if there is no input stream.
    package var offset: UInt64?

    /// The same place in the units of the format.
    package var place: Place?

    /// Records that the failed call had completed before it came to the fault. They are good and are handed out
    /// nowhere else, so whoever catches the error has to store them first.
    package var completedRecords: [OTLPRecord] = []

    init(_ reason: Reason, _ detail: String) {
        self.reason = reason
        self.detail = detail
    }

    /// One line: what, where, and what to do about it.
    package var description: String {
        var places: [String] = []
        switch place {
        case .line(let number): places.append("line \(number)")
        case .message(let number): places.append("message \(number)")
        case nil: break
        }
        if let offset { places.append("byte \(offset)") }
        let location = places.isEmpty ? "" : " (\(places.joined(separator: ", ")))"
        return "\(detail)\(location); \(remedy)"
    }

    private var remedy: String {
        switch reason {
        case .truncated: "check that the input was copied whole, and that its format is the one named"
        case .malformed: "check that the input has the format named, and repair or leave out this part"
        case .tooLong: "split the input into smaller requests, or raise the limit"
        case .unknownFormat: "name the format (\(Self.formatNames))"
        case .unknownSignal: "name the signal (\(Self.signalNames))"
        case .invalidIdentifier: "write trace IDs as 32 and span IDs as 16 hex digits"
        }
    }

    private static var formatNames: String {
        OTLPInputFormat.allCases.filter { $0 != .automatic }.map(\.rawValue).joined(separator: ", ")
    }

    private static var signalNames: String {
        OTLPSignal.allCases.map(\.rawValue).joined(separator: ", ")
    }

    /// The same error with the place of the message it arose in.
    func located(offset: UInt64, place: Place?) -> OTLPInputError {
        var error = self
        error.offset = offset
        error.place = place
        return error
    }
}

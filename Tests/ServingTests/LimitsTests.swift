// Shows that the queues between a connection and the writer are bounded in number: what is too much is refused at once, and
// there is room again when something was done. Their bytes are in PreparationTests, limits of connections in ServerTests.
import Cryptography
import Formats
import Governance
import Platform
import Store
import Testing

@testable import Serving

@Suite struct ServingLimitsTests {
    // limit: Serving.intakeRequests
    @Test func onlySoManyRequestsWaitForTheWriter() {
        let intake = Intake()
        for _ in 0..<Limits.intakeRequests { #expect(intake.submit(intake.obtain())) }
        #expect(!intake.submit(intake.obtain()))
        var taken: [Submission] = []
        #expect(intake.take(into: &taken, waitMilliseconds: 0))
        #expect(taken.count == Limits.intakeRequests)
        #expect(intake.submit(intake.obtain()))
    }

    // limit: Serving.intakeBytes
    @Test func whatWaitsForTheWriterIsOnlySoLarge() {
        let intake = Intake()
        func submit(_ bytes: Int) -> (Submission, Bool) {
            let submission = intake.obtain()
            submission.weight = bytes
            return (submission, intake.submit(submission))
        }
        let (first, isTaken) = submit(Limits.intakeBytes)
        #expect(isTaken)
        #expect(!submit(1).1)
        intake.recycle(first)
        #expect(submit(1).1)
    }
}

//! What holds for every input, one file for each door that strangers' bytes come through.
//!
//! Each has a function `holds`, called by the fuzzer with what it makes up (../fuzz_targets) and by a plain test with what is
//! kept (../corpus, tests/corpus.rs). It panics where the law is broken.

pub(crate) mod annotations;
pub(crate) mod bundle;
pub(crate) mod config;
pub(crate) mod document;
pub(crate) mod lists;
pub(crate) mod netlink;
pub(crate) mod policies;
pub(crate) mod probes;
pub(crate) mod registry;
pub(crate) mod state;

use netlatch::document::MAX_FINDINGS;
use netlatch::error::{Cause, Failure, Finding};
use netlatch::netlink::Messages;
use netlatch::nft::ruleset::Table;
use netlatch::nft::wire::batch::{Batch, Head};
use netlatch::nft::wire::held::Held;
use netlatch::plan::Plan;

/// Most bytes of a line that a failure comes to: some findings, each of which cites some text.
const LINE: usize = 8 << 10;

/// Whether a character could move a cursor, hide text or turn it around.
fn is_dangerous(c: char) -> bool {
    // Unicode's `Bidi_Control`, the two separators that end lines elsewhere, and all controls.
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One line, of bearable length, that does nothing to a terminal.
pub(crate) fn assert_line(text: &str) {
    assert!(!text.contains(is_dangerous), "{text:?}");
    assert!(text.len() <= LINE, "{} bytes: {text}", text.len());
}

/// Many lines that do nothing to a terminal.
pub(crate) fn assert_text(text: &str) {
    let odd = text.find(|c| is_dangerous(c) && c != '\n' && c != '\t');
    assert_eq!(odd, None, "{text:?}");
}

/// A failure that is told in one line, and is the input's and not ours.
pub(crate) fn assert_failure(failure: &Failure, codes: &[u8]) {
    assert!(codes.contains(&failure.exit_code()), "{}: {failure}", failure.exit_code());
    assert!(!matches!(failure.cause, Cause::Internal(_)), "{failure}");
    assert_line(&failure.to_string());
}

/// Findings that can be told: each a line with a place, and no more of them than anybody reads.
pub(crate) fn assert_findings(findings: &[Finding]) {
    assert!(findings.len() <= MAX_FINDINGS, "{} findings", findings.len());
    for finding in findings {
        assert_line(&finding.to_string());
        assert!(!finding.message.is_empty());
        assert!(finding.position.is_none_or(|(line, column)| line > 0 && column > 0), "{finding}");
    }
}

/// A table that the kernel can be sent and that comes back as it was sent: what was encoded decodes to the same.
pub(crate) fn assert_loads(table: &Table) {
    let expected: Vec<Held> = table.parts().map(|part| Held::expected(part, &["lo".to_owned()])).collect();
    let parts: Vec<(&Table, &Held)> = table.parts().zip(&expected).collect();
    let batch = Batch::replace(&parts, Head::Destroy);
    let mut held: Vec<Held> = expected.iter().map(|part| Held::empty(part.name(), part.family())).collect();
    let mut count = 0;
    for message in Messages::new(&batch.bytes) {
        let message = message.expect("a batch of ours is made of messages");
        held.iter_mut().for_each(|part| part.take(&message));
        count += 1;
    }
    assert_eq!(count, batch.objects.len());
    for (held, expected) in held.iter().zip(&expected) {
        let differences = held.differences(expected);
        assert!(differences.is_empty(), "{differences:?}\n{table}");
    }
    assert_text(&table.to_string());
}

/// A plan that can be printed, and whose table loads.
pub(crate) fn assert_plan(plan: &Plan) {
    assert_text(&plan.to_string());
    assert_text(&plan.to_json().to_string());
    if let Some(table) = plan.table() {
        assert_loads(table);
    }
}

//! What a start says to the kernel, for tests/bench/floor.rs.

use std::path::Path;

use netlatch::nft::ruleset::Table;
use netlatch::nft::wire::batch::{Batch, Head};
use netlatch::nft::wire::dump::Ask;
use netlatch::nft::wire::held::Held;
use netlatch::oci::{Requests, State, annotations};
use netlatch::plan::{Facts, plan};
use netlatch::settings::Settings;

/// RTM_NEWLINK that brings `lo` up, and RTM_GETLINK and RTM_GETADDR that read it back, in one datagram.
const LOOPBACK: [&[u8]; 3] = [
    // nlmsghdr: length, type, REQUEST | ACK, sequence, port; ifinfomsg: family, type, index 1, IFF_UP, mask IFF_UP.
    &[32, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
    // The same of RTM_GETLINK, with IFLA_EXT_MASK RTEXT_FILTER_SKIP_STATS.
    &[
        40, 0, 0, 0, 18, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 29, 0,
        8, 0, 0, 0,
    ],
    // RTM_GETADDR, REQUEST | DUMP; ifaddrmsg: family, prefix length, flags, scope, index 1.
    &[24, 0, 0, 0, 22, 0, 1, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
];

/// Writes what the start of a container says whose state is in `state`: its rules, `lo`, and with `reading` what reads its
/// rules back.
pub(crate) fn write(state: &str, reading: bool, file: &Path) {
    let state = State::parse(state.as_bytes()).expect("a state");
    let requests = Requests::parse(annotations(&state, None).expect("annotations")).expect("requests");
    let settings = Settings::decide(None, requests).expect("settings");
    let plan = plan(&state, None, &settings, &Facts::default(), None).expect("a plan");
    let parts: Vec<&Table> = plan.table().expect("a table").parts().collect();
    let expected: Vec<Held> = parts.iter().map(|part| Held::expected(part, &["lo".to_owned()])).collect();
    let both: Vec<(&Table, &Held)> = parts.into_iter().zip(&expected).collect();

    let mut canned = Vec::new();
    let mut say = |protocol: u8, whole: bool, datagram: &[u8]| {
        let length = u32::try_from(datagram.len()).expect("a length");
        canned.extend([protocol, u8::from(whole)]);
        canned.extend(length.to_le_bytes());
        canned.extend(datagram);
    };
    say(0, false, &Batch::replace(&both, Head::Fresh).bytes);
    for held in expected.iter().filter(|_| reading) {
        let elements = held.fixed_sets().map(|set| Ask::Elements(set.name()));
        for ask in [Ask::Table, Ask::Chains, Ask::Sets, Ask::Rules].into_iter().chain(elements) {
            say(0, ask != Ask::Table, &ask.message(held, 1));
        }
    }
    say(1, true, &LOOPBACK.concat());
    std::fs::write(file, canned).expect("a file");
}

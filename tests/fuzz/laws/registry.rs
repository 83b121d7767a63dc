//! Files of the registry. The first byte says which: a record, the roster, or why a start failed. They are root's; but a disk
//! that was full and a machine that lost power write them as well.

use std::fs;
use std::path::Path;
use std::time::Duration;

use netlatch::kernel::process::Deadline;
use netlatch::policy::model::Labels;
use netlatch::registry::{Registry, Stored};

/// What can be read is written and read again as the same; what cannot is passed over.
pub(crate) fn holds(bytes: &[u8]) {
    let Some((kind, content)) = bytes.split_first() else { return };
    let shared = Path::new("/dev/shm");
    let dir = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.expect("a directory");
    let run = dir.path().join("run");
    fs::create_dir(&run).expect("a directory");
    let registry = Registry::at(&run);
    match kind {
        b'c' => record(&registry, &run, content),
        b'r' => roster(&registry, &run, content),
        _ => fault(&registry, &run, content),
    }
}

fn record(registry: &Registry, run: &Path, content: &[u8]) {
    fs::create_dir(run.join("containers")).expect("a directory");
    fs::write(run.join("containers/c.json"), content).expect("a file");
    if let Some(mut record) = registry.record("c") {
        // It is asked of /proc, which is the machine's.
        let _ = record.anchor();
        record.id = "c".into();
        registry.put(&record).expect("a record");
        assert_eq!(registry.record("c").as_ref(), Some(&record));
        assert_eq!(registry.records().expect("a folder").read, [record]);
    }
    let _ = registry.who_runs(|_| Labels::new());
    registry.forget("c").expect("forgotten");
}

/// The header is made to fit: what a fuzzer would never find is no test of what stands behind it.
fn roster(registry: &Registry, run: &Path, content: &[u8]) {
    let (version, state) = (
        content.first().map_or(5, |byte| if *byte < 0xf0 { 5 } else { *byte }),
        content.get(1).map_or(2, |byte| byte % 4),
    );
    let content = content.get(2..).unwrap_or_default();
    let mut file = b"nlroster".to_vec();
    file.extend(u32::from(version).to_le_bytes());
    file.extend([state, 0, 0, 0]);
    // When it was written, when it was written whole and how long it was then, whose turn it is.
    for number in [content.len() as u64, checksum(content), 1, 1, content.len() as u64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(content);
    fs::write(run.join("roster"), file).expect("a file");
    let lock = registry.lock(&Deadline::after(Duration::from_secs(10))).expect("the lock");
    let found = registry.roster(&lock, |_| Labels::new()).expect("what is no roster is made anew");
    if found.rebuilt {
        assert!(found.roster.subjects.is_empty());
        return;
    }
    let glance = registry.glance().expect("it can be read");
    let (mut roster, mut stored) = (found.roster, found.stored);
    // Somebody goes, and another takes his place.
    if roster.subjects.len() > 1 {
        roster.subjects.swap_remove(0);
    }
    registry.begin(&lock, &roster, &mut stored).expect("written").finish().expect("finished");
    for glance in [Some(&glance), None] {
        let again = registry.roster_since(&lock, glance, |_| Labels::new()).expect("read");
        assert!(!again.rebuilt && again.finished && !again.glanced);
        assert_eq!(again.roster, roster);
    }
    registry.begin(&lock, &roster, &mut Stored::default()).expect("written").finish().expect("finished");
    let again = registry.roster(&lock, |_| Labels::new()).expect("read");
    assert!(!again.rebuilt && again.finished);
    assert_eq!(again.roster, roster);
    roster.share();
    for subject in &again.roster.subjects {
        assert!(again.roster.find(subject.netns).is_some());
        for container in &subject.containers {
            assert!(again.roster.subject_of(&container.id).is_some());
        }
    }
}

/// As the roster's file has it, written down a second time: eight bytes at a time, one more, multiplied by 2^64 over the golden
/// ratio.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(sum, |sum, byte| mix(sum, u64::from(*byte)))
}

fn fault(registry: &Registry, run: &Path, content: &[u8]) {
    fs::create_dir(run.join("errors")).expect("a directory");
    fs::write(run.join("errors/c.json"), content).expect("a file");
    assert_eq!(registry.fault(None), registry.fault(Some("c")));
    if let Ok(Some(mut fault)) = registry.fault(Some("c")) {
        fault.id = "c".into();
        registry.put_fault(&fault).expect("kept");
        assert_eq!(registry.fault(Some("c")), Ok(Some(fault)));
    }
}

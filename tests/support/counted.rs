//! Counts that are kept in tests/counts/ and must not grow unseen.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A file of counts.
pub(crate) struct Counted {
    /// Its name in tests/counts/.
    pub(crate) file: &'static str,
    /// What is no growth, as a part of what it was.
    pub(crate) tolerance: f64,
}

impl Counted {
    fn path(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/counts").join(self.file)
    }

    /// Fails where a count has grown, or something counts that did not; says then what did, and how to accept it. With `UPDATE`
    /// in the environment the file is written instead. `head` are its first lines.
    pub(crate) fn compare(&self, head: &str, counts: &BTreeMap<String, u64>) {
        let path = self.path();
        if std::env::var_os("UPDATE").is_some() {
            let head: String = head.lines().map(|line| format!("# {line}\n")).collect();
            let lines: String = counts.iter().map(|(name, count)| format!("{count:>12}  {name}\n")).collect();
            fs::write(&path, head + &lines).expect("the counts are written");
            return;
        }
        let kept = parse(&fs::read_to_string(&path).expect("tests/counts/ is there"));
        let grown: Vec<String> =
            counts.iter().filter_map(|(name, now)| self.grown(name, kept.get(name), *now)).collect();
        assert!(
            grown.is_empty(),
            "more than {} says:\n{}\nWhere that is meant, run this test once with UPDATE=1 in the environment, and say in the \
             commit what it buys.",
            path.display(),
            grown.join("\n")
        );
    }

    fn grown(&self, name: &str, before: Option<&u64>, now: u64) -> Option<String> {
        let Some(before) = before else { return Some(format!("    {name}: {now}, and nothing before")) };
        let part = now as f64 / *before as f64 - 1.0;
        (part > self.tolerance).then(|| format!("    {name}: {now}, {:.1} % more than {before}", part * 100.0))
    }
}

fn parse(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = |line: &str| {
        let (count, name) = line.trim_start().split_once("  ").expect("a count and a name");
        (name.to_owned(), count.parse().expect("a count"))
    };
    lines.map(line).collect()
}

//! Questions and what was found, for people and for programs.

use serde_json::{Value, json};

use crate::cli::page::{Page, Style, plain};

/// What a question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// There is nothing to ask: what it is about is not here.
    NotApplicable,
    /// As it should be.
    Ok,
    /// It works, and something may not be as it is meant.
    Warning,
    /// Containers start unprotected, or do not start.
    Problem,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Verdict::NotApplicable => "not-applicable",
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        }
    }

    /// As the column of the text has it.
    const fn column(self) -> &'static str {
        match self {
            Verdict::NotApplicable => "-",
            Verdict::Ok => "ok",
            Verdict::Warning => "WARNING",
            Verdict::Problem => "PROBLEM",
        }
    }

    const fn style(self) -> Style {
        match self {
            Verdict::NotApplicable => Style::Plain,
            Verdict::Ok => Style::Good,
            Verdict::Warning => Style::Doubtful,
            Verdict::Problem => Style::Bad,
        }
    }
}

/// What questions are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Kernel,
    Capabilities,
    Runtimes,
    Engines,
    HookFiles,
    Configuration,
}

impl Group {
    const ALL: [Group; 6] =
        [Group::Kernel, Group::Capabilities, Group::Runtimes, Group::Engines, Group::HookFiles, Group::Configuration];

    const fn name(self) -> &'static str {
        match self {
            Group::Kernel => "kernel",
            Group::Capabilities => "capabilities",
            Group::Runtimes => "runtimes",
            Group::Engines => "engines",
            Group::HookFiles => "hook files",
            Group::Configuration => "configuration",
        }
    }
}

/// A question, a finding, a remedy.
#[derive(Clone, Debug)]
pub(super) struct Check {
    group: Group,
    question: String,
    pub(super) verdict: Verdict,
    finding: String,
    /// Empty where there is nothing to do.
    remedy: String,
    /// The file it was found in.
    file: Option<String>,
}

impl Check {
    fn text(&self, longest: usize, page: &mut Page) {
        let verdict = [plain("  "), self.verdict.style().on(format!("{:<8} ", self.verdict.column()))];
        // Findings in a column of their own, where it is wide enough to be read.
        let column = 11 + longest + 2;
        if column + 24 <= page.width() {
            let question = plain(format!("{:<longest$}  ", self.question));
            page.put(&[&verdict[..], &[question]].concat(), &[plain(&self.finding)], column);
        } else {
            page.put(&verdict, &[plain(format!("{}: {}", self.question, self.finding))], 11);
        }
        let below = plain(" ".repeat(11));
        if let Some(file) = &self.file {
            page.put(&[below.clone(), plain("in ")], &[plain(file)], 14);
        }
        if !self.remedy.is_empty() {
            page.put(&[below, plain("=> ")], &[plain(&self.remedy)], 14);
        }
    }
}

/// Everything that was asked.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    fn put(&mut self, group: Group, verdict: Verdict, question: &str, finding: impl Into<String>, remedy: &str) {
        let (question, remedy, finding) = (question.to_owned(), remedy.to_owned(), finding.into());
        self.checks.push(Check { group, question, verdict, finding, remedy, file: None });
    }

    pub(super) fn ok(&mut self, group: Group, question: &str, finding: impl Into<String>) {
        self.put(group, Verdict::Ok, question, finding, "");
    }

    pub(super) fn not_applicable(&mut self, group: Group, question: &str, finding: impl Into<String>) {
        self.put(group, Verdict::NotApplicable, question, finding, "");
    }

    pub(super) fn warning(&mut self, group: Group, question: &str, finding: impl Into<String>, remedy: &str) {
        self.put(group, Verdict::Warning, question, finding, remedy);
    }

    pub(super) fn problem(&mut self, group: Group, question: &str, finding: impl Into<String>, remedy: &str) {
        self.put(group, Verdict::Problem, question, finding, remedy);
    }

    /// Says where the last finding was found.
    pub(super) fn found_in(&mut self, file: impl Into<String>) {
        if let Some(last) = self.checks.last_mut() {
            last.file = Some(file.into());
        }
    }

    /// The worst that was found.
    pub(super) fn worst(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::NotApplicable)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// For people: what is wrong last, where the eye is.
    pub(super) fn text(&self, page: &mut Page) {
        let longest = self.checks.iter().map(|check| check.question.chars().count()).max().unwrap_or(0).min(40);
        for group in Group::ALL {
            page.line(Style::Heading, group.name());
            self.checks.iter().filter(|check| check.group == group).for_each(|check| check.text(longest, page));
        }
        let noun = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let total = |verdict: Verdict, word| match self.count(verdict) {
            0 => plain(noun(0, word)),
            count => verdict.style().on(noun(count, word)),
        };
        page.put(&[], &[total(Verdict::Problem, "problem"), plain(", "), total(Verdict::Warning, "warning")], 4);
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let check = |check: &Check| {
            let Check { group, question, verdict, finding, remedy, file } = check;
            json!({
                "group": group.name(), "question": question, "verdict": verdict.word(), "finding": finding,
                "remedy": (!remedy.is_empty()).then_some(remedy), "file": file,
            })
        };
        json!({
            "problems": self.count(Verdict::Problem),
            "warnings": self.count(Verdict::Warning),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}

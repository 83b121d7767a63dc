//! For people or for programs: the options of commands that print for both.

/// The options, as clap reads them.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Printed {
    /// For people or for programs
    #[arg(long, short = 'o', value_enum, default_value_t)]
    output: Output,
    /// Print JSON: the same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

impl Printed {
    /// What was asked for.
    pub(super) const fn output(self) -> Output {
        if self.json { Output::Json } else { self.output }
    }
}

//! `netlatch schema`: what is read and what is printed, for editors and for those who write programs around it.

use clap::builder::PossibleValuesParser;

use super::{Outcome, print_json};
use crate::error::{Cause, Failure};
use crate::schema::{OUTPUTS, Schema, of_output};

/// The command line, as clap reads it.
#[derive(Debug, clap::Args)]
pub(super) struct Question {
    /// Of what
    #[arg(value_parser = PossibleValuesParser::new(Schema::ALL.map(Schema::name)))]
    what: String,
    /// With output: of this alone
    #[arg(value_parser = PossibleValuesParser::new(OUTPUTS))]
    command: Option<String>,
}

/// What the help says beyond its options.
pub(super) const HELP: &str = "\
Examples:
  netlatch schema config > config.schema.json
  netlatch schema output verify

With `# yaml-language-server: $schema=FILE` as its first line, editors check config.yaml as it is written.";

/// Answers.
pub(super) fn run(question: &Question) -> Result<Outcome, Failure> {
    let schema = Schema::ALL.into_iter().find(|schema| schema.name() == question.what);
    match (schema, &question.command) {
        (Some(Schema::Output), Some(command)) => print_json(&of_output(command).unwrap_or_default())?,
        (Some(schema), None) => print_json(schema.text())?,
        (Some(Schema::State | Schema::Config | Schema::Annotations) | None, _) => {
            let problem = "a command's name stands behind output alone".to_owned();
            return Err(Failure::new("read the command line", Cause::Usage(problem)));
        }
    }
    Ok(Outcome::Done)
}

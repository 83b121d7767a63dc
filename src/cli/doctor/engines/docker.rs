//! Docker, which has no hooks but through CDI.

use super::GROUP;
use crate::cli::doctor::report::Report;
use crate::cli::doctor::specs::{self, Spec};
use crate::cli::doctor::tree::Tree;

const NAME: &str = "docker";
const CONFIG: &str = "/etc/docker/daemon.json";

pub(super) fn ask(tree: &Tree, specs: &[Spec], report: &mut Report) {
    if tree.program("dockerd").is_none() {
        return report.not_applicable(GROUP, NAME, "not installed");
    }
    let config = match tree.read(CONFIG) {
        Ok(text) => match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(config) => config,
            Err(error) => {
                let finding = format!("its configuration is not JSON (line {})", error.line());
                report.problem(GROUP, NAME, finding, "mend the file; dockerd does not start with it");
                return report.found_in(tree.shown(CONFIG));
            }
        },
        Err(_) => serde_json::Value::Null,
    };
    let off = config.pointer("/features/cdi").and_then(serde_json::Value::as_bool) == Some(false);
    let named = config.get("cdi-spec-dirs").and_then(serde_json::Value::as_array);
    let folders: Vec<String> = match named {
        Some(named) => named.iter().filter_map(|folder| folder.as_str().map(str::to_owned)).collect(),
        None => specs::FOLDERS.map(str::to_owned).to_vec(),
    };
    let Some(spec) = specs.iter().find(|spec| spec.protects() && spec.lies_in(&folders)) else {
        let finding = "it has no hooks but through CDI, and there is no CDI device of netlatch's";
        return report.warning(
            GROUP,
            NAME,
            finding,
            "`netlatch install cdi`, then docker run --device netlatch.io/net=on",
        );
    };
    if off {
        report.problem(
            GROUP,
            NAME,
            "CDI is off in its configuration",
            "\"features\": {\"cdi\": true}, and restart docker",
        );
        return report.found_in(tree.shown(CONFIG));
    }
    report.ok(
        GROUP,
        NAME,
        "containers with --device netlatch.io/net=on are protected (docker 28.2 or later; others need features.cdi)",
    );
    report.found_in(tree.shown(&spec.path));
}

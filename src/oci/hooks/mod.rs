//! How this program is registered with runtimes and engines: the entries of a specification, the files of hooks.d and
//! the CDI specification, from one call.
//!
//! The files in the project's hooks.d/ are built in, and what is written is made from them: the folder and the program
//! cannot drift apart. With the default path and no arguments of its own, a [`Call`] makes exactly those files.

pub mod patch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Cause, Failure};

/// Where every engine finds the program: an absolute path, since crun would search `PATH`, and below the only folder of
/// programs that NRI's hook-injector sees (facts of nri #241).
pub const PROGRAM: &str = "/usr/libexec/oci/hooks.d/netlatch";

/// The first argument of every call, and the name by which one is known.
const NAME: &str = "netlatch";

/// A stage that the program is registered under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Protects.
    CreateRuntime,
    /// Verifies.
    Poststart,
    /// Forgets.
    Poststop,
}

impl Registered {
    /// Every stage, in the order they are called.
    pub const ALL: [Registered; 3] = [Registered::CreateRuntime, Registered::Poststart, Registered::Poststop];

    /// As specifications spell it.
    pub fn name(self) -> &'static str {
        match self {
            Registered::CreateRuntime => "createRuntime",
            Registered::Poststart => "poststart",
            Registered::Poststop => "poststop",
        }
    }

    /// The built-in files of both sets.
    fn files(self) -> [&'static str; 2] {
        match self {
            Registered::CreateRuntime => [
                include_str!("../../../hooks.d/10-netlatch-createRuntime.json"),
                include_str!("../../../hooks.d/always/10-netlatch-createRuntime.json"),
            ],
            Registered::Poststart => [
                include_str!("../../../hooks.d/10-netlatch-poststart.json"),
                include_str!("../../../hooks.d/always/10-netlatch-poststart.json"),
            ],
            Registered::Poststop => [
                include_str!("../../../hooks.d/10-netlatch-poststop.json"),
                include_str!("../../../hooks.d/always/10-netlatch-poststop.json"),
            ],
        }
    }
}

/// The CDI specification of the project.
const CDI: &str = include_str!("../../../hooks.d/cdi/netlatch.json");

/// The containers that the files of hooks.d call the program for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// Those with an annotation of ours.
    Annotated,
    /// All.
    Always,
}

impl Set {
    const ALL: [Set; 2] = [Set::Annotated, Set::Always];
}

/// The program, called for one stage, as a specification says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    path: String,
    args: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
}

/// How the program is to be called: where it is, and what it is told beside the stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its absolute path.
    pub path: String,
    /// `--config`.
    pub config: Option<String>,
    /// `--run-dir`.
    pub run_dir: Option<String>,
}

impl Default for Call {
    fn default() -> Call {
        Call { path: PROGRAM.to_owned(), config: None, run_dir: None }
    }
}

impl Call {
    /// The entry of a specification.
    ///
    /// # Errors
    /// [`Cause::Internal`] where a built-in file is broken: so for all of [`Call`].
    pub fn hook(&self, stage: Registered) -> Result<Hook, Failure> {
        Ok(self.told(built_in::<HookFile>(stage.files()[0])?.hook))
    }

    fn told(&self, mut hook: Hook) -> Hook {
        hook.path.clone_from(&self.path);
        for (option, value) in [("--config", &self.config), ("--run-dir", &self.run_dir)] {
            hook.args.extend(value.iter().flat_map(|value| [option.to_owned(), value.clone()]));
        }
        hook
    }

    /// The file of hooks.d for a stage.
    ///
    /// # Errors
    /// As [`Call::hook`].
    pub fn file(&self, stage: Registered, set: Set) -> Result<String, Failure> {
        let text = stage.files()[usize::from(set == Set::Always)];
        let mut file: HookFile = built_in(text)?;
        file.hook = self.told(file.hook);
        printed(&file)
    }

    /// The CDI specification.
    ///
    /// # Errors
    /// As [`Call::hook`].
    pub fn cdi(&self) -> Result<String, Failure> {
        let mut cdi: Cdi = built_in(CDI)?;
        for hook in cdi.devices.iter_mut().flat_map(|device| &mut device.edits.hooks) {
            hook.take(self.told(hook.hook()));
        }
        printed(&cdi)
    }
}

/// The file name of a stage in hooks.d.
pub fn file_name(stage: Registered) -> String {
    format!("10-netlatch-{}.json", stage.name())
}

/// What was found where the program is, or would be, registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// What an installation writes that names no configuration and no run directory: replaced without loss.
    Plain,
    /// What an installation writes, with such arguments.
    Told,
    /// Of this program's name, and not as an installation writes it: somebody's own.
    Altered,
    /// Another's.
    Foreign,
}

/// What an entry of a stage's list is.
pub fn kin_of_entry(entry: &Value, stage: &str) -> Kin {
    let program = entry["path"].as_str().and_then(|path| path.rsplit('/').next());
    if program != Some(NAME) && entry["args"][0] != NAME {
        return Kin::Foreign;
    }
    let stage = Registered::ALL.into_iter().find(|registered| registered.name() == stage);
    let hook = Hook::deserialize(entry).ok();
    stage.zip(hook).map_or(Kin::Altered, |(stage, hook)| kin(&hook, stage))
}

/// What a file in the place of one of hooks.d is.
pub fn kin_of_file(text: &str, stage: Registered) -> Kin {
    let Ok(found) = serde_json::from_str::<HookFile>(text) else { return Kin::Altered };
    let of = |set: &Set| {
        let ours: HookFile = built_in(stage.files()[usize::from(*set == Set::Always)]).ok()?;
        let same = ours.version == found.version && ours.when == found.when && ours.stages == found.stages;
        same.then(|| kin(&found.hook, stage))
    };
    Set::ALL.iter().find_map(of).unwrap_or(Kin::Altered)
}

/// What a file in the place of the CDI specification is.
pub fn kin_of_cdi(text: &str) -> Kin {
    let (Ok(mut found), Ok(ours)) = (serde_json::from_str::<Cdi>(text), built_in::<Cdi>(CDI)) else {
        return Kin::Altered;
    };
    let mut worst = Kin::Plain;
    let hooks = found.devices.iter_mut().flat_map(|device| &mut device.edits.hooks);
    for (hook, own) in hooks.zip(ours.devices.iter().flat_map(|device| &device.edits.hooks)) {
        let stage = Registered::ALL.into_iter().find(|stage| stage.name() == hook.name);
        match stage.map_or(Kin::Altered, |stage| kin(&hook.hook(), stage)) {
            Kin::Plain => {}
            Kin::Told => worst = Kin::Told,
            Kin::Altered | Kin::Foreign => return Kin::Altered,
        }
        hook.take(own.hook());
    }
    if found == ours { worst } else { Kin::Altered }
}

fn kin(hook: &Hook, stage: Registered) -> Kin {
    let Ok(ours) = Call::default().hook(stage) else { return Kin::Altered };
    let Some(told) = hook.args.strip_prefix(&ours.args[..]) else { return Kin::Altered };
    let option = |pair: &[String]| pair.len() == 2 && ["--config", "--run-dir"].contains(&pair[0].as_str());
    if hook.timeout != ours.timeout || !told.chunks(2).all(option) {
        Kin::Altered
    } else if told.is_empty() {
        Kin::Plain
    } else {
        Kin::Told
    }
}

/// A file of hooks.d (container-libs, oci-hooks.5), schema 1.0.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HookFile {
    version: String,
    hook: Hook,
    when: When,
    stages: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    always: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

/// A specification of the Container Device Interface (cncf-tags/container-device-interface, SPEC.md). Version 0.3.0 is
/// the oldest that engines still take, and has all that is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Cdi {
    cdi_version: String,
    kind: String,
    devices: Vec<Device>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    name: String,
    #[serde(rename = "containerEdits")]
    edits: Edits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edits {
    hooks: Vec<CdiHook>,
}

/// serde cannot flatten into what denies unknown fields, so those of [`Hook`] stand here once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CdiHook {
    #[serde(rename = "hookName")]
    name: String,
    path: String,
    args: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
}

impl CdiHook {
    fn hook(&self) -> Hook {
        Hook { path: self.path.clone(), args: self.args.clone(), timeout: self.timeout }
    }

    fn take(&mut self, hook: Hook) {
        Hook { path: self.path, args: self.args, timeout: self.timeout } = hook;
    }
}

fn built_in<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::new("read a built-in hook file", Cause::Internal(error.to_string())))
}

fn printed(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Failure::new("print a hook file", Cause::Internal(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told() -> Call {
        Call { path: "/opt/netlatch".into(), config: Some("/etc/a b.yaml".into()), run_dir: Some("/run/x".into()) }
    }

    #[test]
    fn the_default_call_makes_the_projects_files_byte_for_byte() {
        let call = Call::default();
        for stage in Registered::ALL {
            for (set, text) in Set::ALL.into_iter().zip(stage.files()) {
                assert_eq!(call.file(stage, set).unwrap(), text);
                assert_eq!(kin_of_file(text, stage), Kin::Plain);
            }
        }
        assert_eq!(call.cdi().unwrap(), CDI);
        assert_eq!(kin_of_cdi(CDI), Kin::Plain);
    }

    #[test]
    fn every_route_has_the_same_entries() {
        for call in [Call::default(), told()] {
            let cdi: Value = serde_json::from_str(&call.cdi().unwrap()).unwrap();
            for (index, stage) in Registered::ALL.into_iter().enumerate() {
                let hook = serde_json::to_value(call.hook(stage).unwrap()).unwrap();
                for set in Set::ALL {
                    let file: Value = serde_json::from_str(&call.file(stage, set).unwrap()).unwrap();
                    assert_eq!(file["hook"], hook);
                }
                let mut listed = cdi["devices"][0]["containerEdits"]["hooks"][index].clone();
                assert_eq!(listed.as_object_mut().unwrap().remove("hookName"), Some(json!(stage.name())));
                assert_eq!(listed, hook);
            }
        }
        let hook = serde_json::to_value(told().hook(Registered::Poststart).unwrap()).unwrap();
        let args = ["netlatch", "poststart", "--config", "/etc/a b.yaml", "--run-dir", "/run/x"];
        assert_eq!(hook, json!({"path": "/opt/netlatch", "args": args}));
    }

    #[test]
    fn what_an_installation_wrote_is_known_by_its_arguments() {
        let told = told();
        assert_eq!(kin_of_cdi(&told.cdi().unwrap()), Kin::Told);
        for stage in Registered::ALL {
            assert_eq!(kin_of_file(&told.file(stage, Set::Always).unwrap(), stage), Kin::Told);
            let of = |value: Value| kin_of_entry(&value, stage.name());
            let plain = serde_json::to_value(Call::default().hook(stage).unwrap()).unwrap();
            assert_eq!(of(plain.clone()), Kin::Plain);
            assert_eq!(of(serde_json::to_value(told.hook(stage).unwrap()).unwrap()), Kin::Told);
            for (key, value) in [
                ("env", json!([])),
                ("timeout", json!(0)),
                ("timeout", json!(7)),
                ("args", json!(["netlatch"])),
                ("args", json!(["netlatch", "prestart"])),
                ("args", json!(["netlatch", stage.name(), "--config"])),
                ("args", json!(["netlatch", stage.name(), "--verbose", "x"])),
                ("args", json!(5)),
            ] {
                let mut altered = plain.clone();
                altered[key] = value;
                assert_eq!(of(altered.clone()), Kin::Altered, "{altered}");
            }
            assert_eq!(kin_of_entry(&plain, "startContainer"), Kin::Altered);
            // Another program of that path's folder, and what is no entry at all.
            for foreign in
                [json!({"path": "/usr/libexec/oci/hooks.d/other"}), json!({}), json!(null), json!("netlatch")]
            {
                assert_eq!(of(foreign.clone()), Kin::Foreign, "{foreign}");
            }
        }
    }

    #[test]
    fn a_file_that_somebody_changed_is_not_taken_for_ours() {
        let stage = Registered::CreateRuntime;
        let text = Call::default().file(stage, Set::Annotated).unwrap();
        for (from, to) in [
            ("\"createRuntime\"\n  ]", "\"createContainer\"\n  ]"),
            ("io\\\\.netlatch", "io\\\\.mine"),
            ("\"version\"", "\"extra\": 1,\n  \"version\""),
            ("15", "99"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            assert_eq!(kin_of_file(&changed, stage), Kin::Altered, "{changed}");
        }
        assert_eq!(kin_of_file(&text, Registered::Poststop), Kin::Altered);
        assert_eq!(kin_of_file("", stage), Kin::Altered);
        for (from, to) in [("\"on\"", "\"off\""), ("netlatch.io", "mine.io"), ("\"poststop\"", "\"poststart\"")] {
            assert_eq!(kin_of_cdi(&CDI.replace(from, to)), Kin::Altered, "{from}");
        }
    }
}

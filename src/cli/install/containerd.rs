//! A base specification for containerd's CRI plugin. It replaces containerd's own default (`base_runtime_spec`), so it has
//! to be made from what the same containerd prints.

use std::io::Read;
use std::path::Path;

use super::{BASE_SPEC, Site, bundle};
use crate::error::{Cause, Failure};
use crate::kernel::files::{ReadError, Trust, read_regular};
use crate::oci::bundle::MAX_BUNDLE;
use crate::oci::hooks::Call;
use crate::oci::hooks::patch;

const CONFIG: &str = "/etc/containerd/config.toml";

pub(super) fn install(site: &mut Site, spec: Option<&Path>, output: &Path, call: &Call) -> Result<(), Failure> {
    let there = match site.root.read(output, (MAX_BUNDLE, "MAX_BUNDLE")) {
        Err(ReadError::Missing) => None,
        Ok(_) | Err(_) => Some(bundle::read(site, output)?),
    };
    let Some(spec) = spec else {
        let Some((file, text, standing)) = there else {
            let problem = "no base specification is there yet: `ctr oci spec | netlatch install containerd --spec -`";
            return Err(Failure::new("put hooks into a base specification", Cause::Usage(problem.to_owned())));
        };
        let patched = patch::install(&file, &text, call)?;
        bundle::put(site, output, &text, standing, &patched)?;
        return lines(site, output);
    };
    let (name, bytes) = given(spec)?;
    let text = String::from_utf8(bytes).map_err(|_| unusable(&name, "is not UTF-8".to_owned()))?;
    let patched = patch::install(&name, &text, call)?;
    match &there {
        // What never was ours is not written over.
        Some((file, old, _)) if *old != patched.text && patch::uninstall(file, old)?.text == *old => {
            let why = "holds no hooks of netlatch's; give it as --spec to put them in";
            site.report.left(&site.root.shown(output), why);
            Ok(())
        }
        Some(_) | None => {
            site.put(output, &patched.text, there.as_ref().map(|(_, old, _)| old.as_str()))?;
            for (at, why) in &patched.left {
                site.report.left(spec, &format!("{at} {why}"));
            }
            lines(site, output)
        }
    }
}

pub(super) fn uninstall(site: &mut Site, output: &Path) -> Result<(), Failure> {
    if matches!(site.root.read(output, (MAX_BUNDLE, "MAX_BUNDLE")), Err(ReadError::Missing)) {
        return Ok(());
    }
    let (file, text, standing) = bundle::read(site, output)?;
    let patched = patch::uninstall(&file, &text)?;
    // containerd does not load its CRI plugin without a base specification that its configuration names.
    let named = site.text(Path::new(CONFIG))?.is_some_and(|config| config.contains(BASE_SPEC));
    if output == Path::new(BASE_SPEC) && !named && patched.left.is_empty() {
        return site.remove(output);
    }
    bundle::put(site, output, &text, standing, &patched)?;
    if output == Path::new(BASE_SPEC) && named {
        let config = site.root.shown(Path::new(CONFIG));
        site.report.left(
            &site.root.shown(output),
            &format!("{} names it; take base_runtime_spec out there first", config.display()),
        );
    }
    Ok(())
}

/// The specification to start from, with its name for messages. It is the caller's own, so it is not below `--destdir`.
fn given(spec: &Path) -> Result<(String, Vec<u8>), Failure> {
    if spec == Path::new("-") {
        let mut bytes = Vec::new();
        let whole = std::io::stdin().take(MAX_BUNDLE as u64 + 1).read_to_end(&mut bytes);
        whole.map_err(|error| unusable("stdin", format!("{:?}", crate::error::errno_of(&error))))?;
        return Ok(("stdin".to_owned(), bytes));
    }
    let name = spec.display().to_string();
    let bytes = read_regular(spec, (MAX_BUNDLE, "MAX_BUNDLE"), Trust::Any);
    let bytes = bytes.map_err(|error| unusable(&name, error.to_string()))?;
    Ok((name, bytes))
}

fn unusable(file: &str, problem: String) -> Failure {
    Failure::new("read the base specification", Cause::Bundle { file: file.to_owned(), problem })
}

/// What is left to do.
fn lines(site: &mut Site, output: &Path) -> Result<(), Failure> {
    let output = serde_json::Value::from(output.display().to_string());
    site.report.lines(&format!(
        "
Add to {CONFIG}, and restart containerd:

  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]      # containerd 1.x
  [plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]   # containerd 2.x: instead of the line above
    runtime_type = \"io.containerd.runc.v2\"
    base_runtime_spec = {output}
    pod_annotations = [\"io.netlatch.*\"]
"
    ));
    Ok(())
}

//! A machine on which somebody follows a document: a fresh clone, root, engines, and no Netlatch. What is peculiar to machines
//! within machines is hidden where a user would not look, so that each command is run as it stands in the document.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::container::binary;
use super::examples::{Example, Mark, documents, examples};
use super::machine::{Machine, cgroup};

/// The machine, and where the clone is on it.
pub(crate) struct Newcomer {
    pub(crate) machine: Machine,
    clone: PathBuf,
}

/// What is installed below /usr ends with the machine.
const OWN_USR: &str = "\
set -e
mkdir /run/usr /run/usr-work
mount -t overlay -o lowerdir=/usr,upperdir=/run/usr,workdir=/run/usr-work usr /usr
mkdir -p /etc/containers /usr/local/bin /etc/cdi
rm -rf /etc/netlatch /etc/cdi/netlatch*
";

/// Nobody here is to answer for others, as the far side of other tests does.
const ALONE: &str = "\
set -e
nft delete table inet far
nft delete table inet lab
ip route del local 0.0.0.0/0 dev lo table main
ip route del local ::/0 dev lo table main
";

/// A host may let containers start fewer processes and open fewer files than podman's defaults ask for.
const CONTAINERS_CONF: &str = "\
[containers]
log_driver = \"k8s-file\"
default_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]
[engine]
cgroup_manager = \"cgroupfs\"
runtime = \"runc\"
events_logger = \"file\"
[network]
network_backend = \"netavark\"
";

const STORAGE_CONF: &str =
    "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"/run/containers-graph\"\n";

/// The root of the machine is who follows the document already.
const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";

impl Newcomer {
    /// A fresh one.
    pub(crate) fn new() -> Newcomer {
        let machine = Machine::new();
        machine.expect("sh", &["-c", OWN_USR], b"");
        let clone = machine.path("clone");
        let built = clone.join("target/release");
        fs::create_dir_all(&built).expect("a directory");
        fs::copy(binary(), built.join("netlatch")).expect("the program is copied");
        let scripts = clone.join("scripts");
        fs::create_dir(&scripts).expect("a directory");
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")).expect("scripts") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                fs::copy(&path, scripts.join(path.file_name().expect("a name"))).expect("a script is copied");
            }
        }
        let newcomer = Newcomer { machine, clone };
        newcomer.place("/etc/containers/containers.conf", CONTAINERS_CONF);
        newcomer.place("/etc/containers/storage.conf", STORAGE_CONF);
        newcomer.program("sudo", SUDO);
        newcomer
    }

    /// With podman, whose cgroups are the machine's, and images under these names. There is no name server on the machine
    /// (aardvark-dns), which podman would start for a network.
    pub(crate) fn with_podman(self, images: &[&str]) -> Newcomer {
        self.machine.expect("sh", &["-c", ALONE], b"");
        let parent = cgroup(&self.machine.path(""));
        let podman = ["/usr/bin/podman", "/usr/local/bin/podman"].into_iter().find(|path| Path::new(path).exists());
        let wrapper = format!(
            "#!/bin/sh\ncase \"$1 $2\" in\n'network create') shift 2; set -- network create --disable-dns \"$@\" ;;\n\
             run\\ *|create\\ *) verb=$1; shift; set -- \"$verb\" --cgroup-parent {parent} \"$@\" ;;\nesac\nexec {} \"$@\"\n",
            podman.expect("podman is installed")
        );
        self.program("podman", &wrapper);
        let tree = "cd \"$1\" && mkdir -p bin && for name in sh sleep httpd wget nc mkdir echo cat; do ln -sf busybox bin/$name; done";
        let rootfs = self.machine.path("rootfs");
        self.machine.expect("sh", &["-c", tree, "sh", rootfs.to_str().expect("UTF-8")], b"");
        let archive = self.machine.archive();
        for image in images {
            let output =
                super::namespace::run_with_input(self.command("podman").args(["import", "-", image]), &archive);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        self
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = self.machine.command(program);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// A file of the machine.
    pub(crate) fn place(&self, path: &str, text: &str) {
        self.machine.expect(
            "sh",
            &["-c", "mkdir -p \"$(dirname \"$1\")\" && cat >\"$1\"", "sh", path],
            text.as_bytes(),
        );
    }

    /// A program in its path.
    pub(crate) fn program(&self, name: &str, text: &str) {
        let path = format!("/usr/local/bin/{name}");
        self.place(&path, text);
        self.machine.expect("chmod", &["755", &path], b"");
    }

    /// Runs commands in the clone, as a shell that ends at the first that fails.
    pub(crate) fn run(&self, commands: &str) -> Output {
        let script = "cd \"$0\" && exec 2>&1 && eval \"$1\"";
        let mut command = self.command("sh");
        command.args(["-e", "-c", script]).arg(&self.clone).arg(commands);
        super::namespace::run_with_input(&mut command, b"")
    }

    /// Follows a document from its first command to its last.
    pub(crate) fn follow(&self, name: &str) {
        steps(name).iter().for_each(|step| self.step(step));
    }

    /// Does what a step of a document says: writes a file, or runs commands. What is neither is for others to look at.
    pub(crate) fn step(&self, example: &Example) {
        match (&example.mark, example.language.as_str()) {
            (Some(Mark::File(file)), _) => {
                let path = if file.starts_with('/') { PathBuf::from(file) } else { self.clone.join(file) };
                self.place(path.to_str().expect("UTF-8"), &example.text);
            }
            (None | Some(Mark::Fails), "sh") => example.judge(&self.run(&example.text)),
            (None | Some(Mark::NotRun(_) | Mark::Fails), _) => {}
        }
    }
}

/// The examples of a document.
pub(crate) fn steps(name: &str) -> Vec<Example> {
    let (_, text) = documents().into_iter().find(|(document, _)| document == name).expect("a document");
    examples(name, &text)
}

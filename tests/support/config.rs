//! The specification of a bundle, for tests and for the benches.

use serde_json::{Value, json};

/// A container with private namespaces and without capabilities, whose first process is `args`; its hooks and annotations are
/// the caller's to add.
pub(crate) fn isolated(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/", "args": args, "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
            "capabilities": {"bounding": [], "effective": [], "permitted": []},
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "nodev", "noexec"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
        ]},
        "annotations": {},
        "hooks": {},
    })
}

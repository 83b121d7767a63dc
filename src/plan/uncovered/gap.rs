//! The names of what is not covered, with what an operator can do about each.

/// What is not covered. The names are for programs and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// There is no config.json to look at.
    BundleMissing,
    /// It stays in the runtime's own network.
    HostNetwork,
    /// All capabilities and all devices.
    Privileged,
    /// A capability over the host's kernel.
    HostCapabilities,
    /// `CAP_NET_ADMIN`, and nothing at the host's side.
    NetAdmin,
    /// `CAP_NET_RAW`, which is held, and packet sockets send nothing that others do not.
    RawSockets,
    /// `CAP_NET_RAW` without the guard.
    PacketSockets,
    /// AF_XDP sockets.
    AfXdp,
    /// AF_VSOCK sockets.
    AfVsock,
    /// A seccomp filter of socket(2) that io_uring goes round.
    IoUring,
    /// The control socket of an engine or of the host's services.
    EngineSocket,
    /// Another socket of the host.
    UnixSockets,
    /// /dev/net/tun and the like.
    TunDevice,
    /// /dev/vhost-vsock.
    VhostVsock,
    /// RDMA adapters.
    Rdma,
    /// Hardware that a program drives by itself.
    DevicePassthrough,
    /// Every device of the host.
    AllDevices,
    /// The host's processes.
    HostPid,
    /// Another container's processes.
    SharedPid,
    /// Network sysctls that can be written.
    WritableProcSys,
}

impl Gap {
    /// All of them, the gravest first.
    pub const ALL: [Gap; 20] = [
        Gap::BundleMissing,
        Gap::HostNetwork,
        Gap::Privileged,
        Gap::EngineSocket,
        Gap::HostCapabilities,
        Gap::NetAdmin,
        Gap::AllDevices,
        Gap::DevicePassthrough,
        Gap::Rdma,
        Gap::HostPid,
        Gap::SharedPid,
        Gap::PacketSockets,
        Gap::AfXdp,
        Gap::IoUring,
        Gap::AfVsock,
        Gap::VhostVsock,
        Gap::TunDevice,
        Gap::UnixSockets,
        Gap::WritableProcSys,
        Gap::RawSockets,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Gap::BundleMissing => "bundle-missing",
            Gap::HostNetwork => "host-network",
            Gap::Privileged => "privileged",
            Gap::HostCapabilities => "host-capabilities",
            Gap::NetAdmin => "net-admin",
            Gap::RawSockets => "raw-sockets",
            Gap::PacketSockets => "packet-sockets",
            Gap::AfXdp => "af-xdp",
            Gap::AfVsock => "af-vsock",
            Gap::IoUring => "io-uring",
            Gap::EngineSocket => "engine-socket",
            Gap::UnixSockets => "unix-sockets",
            Gap::TunDevice => "tun-device",
            Gap::VhostVsock => "vhost-vsock",
            Gap::Rdma => "rdma",
            Gap::DevicePassthrough => "device-passthrough",
            Gap::AllDevices => "all-devices",
            Gap::HostPid => "host-pid",
            Gap::SharedPid => "shared-pid",
            Gap::WritableProcSys => "writable-proc-sys",
        }
    }

    /// What an operator can do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Gap::BundleMissing => "update the runtime, or look at its configuration of the container by hand",
            Gap::HostNetwork => "give the container a network of its own",
            Gap::Privileged => "run it without --privileged, and name the capabilities and devices it needs",
            Gap::HostCapabilities => "drop them, or run the container in a user namespace",
            Gap::NetAdmin => {
                "drop it, or take `net-admin: allow` out of the configuration file, and create the container anew"
            }
            Gap::RawSockets => "nothing has to be done; drop CAP_NET_RAW where nobody pings from inside",
            Gap::PacketSockets => {
                "take `net-raw: allow` out of the configuration file and run `netlatch reload`, or drop CAP_NET_RAW"
            }
            Gap::AfXdp => "drop CAP_NET_RAW, or deny family 44 as for af-vsock",
            Gap::AfVsock => {
                "deny family 40 by AppArmor or SELinux; or by a seccomp profile without 32-bit architectures, by \
                 SCMP_CMP_MASKED_EQ with mask 0xffffffff, and deny io_uring_setup(2) there"
            }
            Gap::IoUring => "deny io_uring_setup(2) in the seccomp profile",
            Gap::EngineSocket => "take the mount away; read-only does not help, for connecting writes nothing",
            Gap::UnixSockets => "take the mount away unless what listens there may act for the container",
            Gap::TunDevice => "take the device away unless the container is a VPN's or a virtual machine's",
            Gap::VhostVsock | Gap::Rdma | Gap::DevicePassthrough => {
                "take the device away, or control its traffic where it ends"
            }
            Gap::AllDevices => "allow the devices it needs by their numbers, and drop CAP_MKNOD",
            Gap::HostPid | Gap::SharedPid => "give it a process namespace of its own, or another user",
            Gap::WritableProcSys => "put /proc/sys into linux.readonlyPaths, as engines do",
        }
    }

    /// How much it matters.
    pub const fn weight(self) -> Weight {
        match self {
            Gap::RawSockets => Weight::Note,
            // Engines give these to everybody, or nobody can help it: said where somebody looks, not at every start.
            Gap::AfVsock | Gap::IoUring | Gap::BundleMissing | Gap::HostNetwork => Weight::Usual,
            Gap::Privileged
            | Gap::HostCapabilities
            | Gap::NetAdmin
            | Gap::PacketSockets
            | Gap::AfXdp
            | Gap::EngineSocket
            | Gap::UnixSockets
            | Gap::TunDevice
            | Gap::VhostVsock
            | Gap::Rdma
            | Gap::DevicePassthrough
            | Gap::AllDevices
            | Gap::HostPid
            | Gap::SharedPid
            | Gap::WritableProcSys => Weight::Grave,
        }
    }
}

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Good to know; nothing passes.
    Note,
    /// Ordinary containers of some engine have it too.
    Usual,
    /// Somebody asked for it, and a start says so in the log.
    Grave,
}

impl Weight {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Weight::Note => "note",
            Weight::Usual => "usual",
            Weight::Grave => "grave",
        }
    }
}

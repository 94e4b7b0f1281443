//! What the driver asks of a libvirt daemon, whichever way it is reached.

use std::fmt::{Debug, Display};
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use nova_core::class::Class;
use nova_core::clock::Meter;
use tokio::sync::broadcast;

/// A domain's UUID.
pub(crate) type DomainId = [u8; 16];

/// The seam between the driver and its connections: one method for each thing that a daemon is
/// asked. All of them wait for the daemon and none blocks a thread of the caller's.
#[async_trait]
pub(crate) trait Daemon: Display + Debug + Send + Sync + 'static {
    /// Adds up from now on for how long an answer is waited for; the first who asks gets it.
    fn measured_by(&self, meter: Meter);

    /// The version of the hypervisor, each part times 1000.
    async fn version(&self) -> Result<u64, LibvirtError>;

    /// What the host is, as XML.
    async fn capabilities(&self) -> Result<String, LibvirtError>;

    /// What machines of this kind can have, such as those of `kvm`, as XML.
    async fn machine_capabilities(&self, kind: &str) -> Result<String, LibvirtError>;

    /// Every PCI device of the host, each as XML. One that goes meanwhile is left out.
    async fn pci_devices(&self) -> Result<Vec<String>, LibvirtError>;

    /// Every domain, executing or not, with its name.
    async fn domains(&self) -> Result<Vec<(DomainId, String)>, LibvirtError>;

    /// The state of a domain; none when there is no such domain.
    async fn state(&self, domain: DomainId) -> Result<Option<DomainState>, LibvirtError>;

    /// How a domain is defined, as XML: how it is now, or how it starts the next time.
    async fn description(&self, domain: DomainId, of: Which) -> Result<String, LibvirtError>;

    /// Defines a domain, or another definition of it, once the XML was found valid.
    async fn define(&self, xml: &str) -> Result<(), LibvirtError>;

    /// Starts a domain as it is defined.
    async fn start(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Asks a domain to shut down, and does not wait.
    async fn ask_to_shut_down(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Ends a domain at once. It stays defined.
    async fn destroy(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Forgets a domain that does not execute.
    async fn undefine(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Puts the memory of a domain on disk, of one that is frozen as well: it is [`Saved`] then,
    /// and executes when it is [restored](Self::restore).
    ///
    /// [`Saved`]: DomainState::Saved
    async fn save(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Starts a domain from its saved memory, as it was defined when that was saved.
    ///
    /// A daemon that finds that it never completed the memory itself, as after a loss of power,
    /// throws it away and boots the domain.
    async fn restore(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Throws the saved memory of a domain away. There has to be some.
    async fn forget_memory(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Freezes a domain.
    async fn suspend(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Lets a frozen domain go on.
    async fn resume(&self, domain: DomainId) -> Result<(), LibvirtError>;

    /// Plugs a device into an executing domain, not into its definition.
    async fn plug(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError>;

    /// Asks an executing domain to give up a device. It is gone when the description says so.
    async fn unplug(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError>;

    /// For how long the CPUs of an executing domain have executed.
    async fn cpu_time(&self, domain: DomainId) -> Result<Duration, LibvirtError>;

    /// How much of the host's memory an executing domain takes, in bytes; none when the daemon
    /// does not say.
    async fn memory(&self, domain: DomainId) -> Result<Option<u64>, LibvirtError>;

    /// What went through a disk of an executing domain, by its target name.
    async fn disk_traffic(&self, domain: DomainId, disk: &str) -> Result<Traffic, LibvirtError>;

    /// What went through an interface of an executing domain, by the name of the host's end.
    async fn card_traffic(&self, domain: DomainId, card: &str) -> Result<Traffic, LibvirtError>;

    /// Sending domains to other daemons, where this connection knows how.
    fn migrations(&self) -> Option<&dyn Migrations>;

    /// Copying disks of domains that execute, if this connection can ask for it.
    fn copying(&self) -> Option<&dyn CopyDisks>;

    /// Asking agents inside domains, if this connection knows how.
    fn agents(&self) -> Option<&dyn Agents>;

    /// Whether this connection is told of what others change.
    fn is_told(&self) -> bool;

    /// What changes from now on, as far as this connection is told.
    fn changes(&self) -> broadcast::Receiver<Change>;
}

/// Copies of the disks of domains that execute, which go on executing.
#[async_trait]
pub(crate) trait CopyDisks: Send + Sync {
    /// Begins to copy disks of an executing domain, as the XML says.
    async fn begin_backup(&self, domain: DomainId, xml: &str) -> Result<(), LibvirtError>;

    /// How the last longer work on a domain is.
    async fn job(&self, domain: DomainId) -> Result<Job, LibvirtError>;
}

/// What runs inside domains and hears at a channel of theirs.
#[async_trait]
pub(crate) trait Agents: Send + Sync {
    /// Gives a command to the agent in an executing domain, and waits so many seconds for its
    /// answer, which is whatever the domain chose to say.
    async fn command(
        &self,
        domain: DomainId,
        command: &str,
        seconds: u32,
    ) -> Result<String, LibvirtError>;
}

/// The phases in which a domain goes from one daemon to another, each asked for by its own name.
///
/// The domain is frozen at its source from the end of [`perform`](Self::perform) on. What is said
/// between the phases, the cookies, is the daemons' own.
#[async_trait]
pub(crate) trait Migrations: Send + Sync {
    /// At the source: how the domain is to be made at the destination, as XML, and a cookie.
    async fn begin(
        &self,
        domain: DomainId,
        copied: &Copied,
    ) -> Result<(Vec<u8>, String), LibvirtError>;

    /// At the destination: makes a domain that waits for its memory, which comes to an address
    /// such as `tcp://192.0.2.1`. A cookie, and the address with everything. The domain ends with
    /// the connection, unless it is finished.
    async fn prepare(
        &self,
        xml: &str,
        at: &str,
        cookie: &[u8],
        copied: &Copied,
    ) -> Result<(Vec<u8>, String), LibvirtError>;

    /// At the source: copies everything, and returns when all is copied, with a cookie. When it
    /// fails the domain goes on.
    async fn perform(
        &self,
        domain: DomainId,
        at: &str,
        cookie: &[u8],
        copied: &Copied,
    ) -> Result<Vec<u8>, LibvirtError>;

    /// At the destination: the domain with this name is complete, and frozen.
    async fn finish(&self, name: &str, cookie: &[u8], copied: &Copied) -> Result<(), LibvirtError>;

    /// At the source: it did not arrive, and goes on as before.
    async fn take_back(&self, domain: DomainId, copied: &Copied) -> Result<(), LibvirtError>;

    /// At the source: ends what is being performed.
    async fn abort(&self, domain: DomainId) -> Result<(), LibvirtError>;
}

/// The disks that are copied along with the memory, by their targets; none where both hosts reach
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copied(pub(crate) Option<Vec<String>>);

/// What the daemon's driver for a kind of hypervisor understands beyond what all of them do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// Flags of starting.
    pub(crate) start: u32,
    /// Flags of undefining.
    pub(crate) undefine: u32,
    /// Whether it saves the memory of domains.
    pub(crate) saves: bool,
}

impl Habits {
    pub(crate) fn of(uri: &str) -> Self {
        if uri.starts_with("qemu") {
            // Not from a saved memory; and without saved memory, descriptions of snapshots and of
            // checkpoints, and NVRAM.
            Self { start: 8, undefine: 1 | 2 | 4 | 16, saves: true }
        } else {
            Self { start: 0, undefine: 0, saves: false }
        }
    }
}

/// Which definition of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one it executes with.
    Current,
    /// The one that is kept for its next start.
    Kept,
}

/// What a domain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DomainState {
    /// It executes, or waits for a disk, or is about to shut down.
    Running,
    /// It is in memory and does not execute.
    Paused,
    /// It is not in memory.
    Off,
    /// It is not in memory, and what was in its memory is on disk.
    Saved,
}

/// Of saving: the domain executes when it is restored, whether it was frozen or not.
pub(crate) const SAVE_RUNNING: u32 = 1 << 1;

impl DomainState {
    /// Whether it is not in memory.
    pub(crate) const fn is_down(self) -> bool {
        matches!(self, Self::Off | Self::Saved)
    }

    /// `virDomainState`. That it is saved is asked for besides.
    pub(crate) fn from_number(number: i32) -> Self {
        match number {
            // Running, blocked, being shut down; and what a driver has no word for.
            0 | 1 | 2 | 4 => Self::Running,
            // Paused, or asleep on its own account.
            3 | 7 => Self::Paused,
            // Shut off, crashed, or whatever comes.
            _ => Self::Off,
        }
    }
}

/// How some longer work on a domain is.
#[cfg_attr(not(feature = "libvirt-native"), expect(dead_code, reason = "nobody else can say"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// It goes on.
    UnderWay,
    /// It was done.
    Completed,
    /// It ended otherwise, or there was none.
    Failed,
}

/// What went through a device, as the guest sees it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes read or received.
    pub(crate) bytes_in: u64,
    /// Reads, or packets received.
    pub(crate) count_in: u64,
    /// Bytes written or sent.
    pub(crate) bytes_out: u64,
    /// Writes, or packets sent.
    pub(crate) count_out: u64,
}

/// Something that a daemon told unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Something is otherwise with one domain.
    Domain(DomainId),
    /// The connection is a new one: anything may have happened meanwhile.
    Anything,
}

/// Waits until something is told of a domain, or nothing more can be told.
pub(crate) async fn told(changes: &mut broadcast::Receiver<Change>, domain: DomainId) {
    loop {
        match changes.recv().await {
            Ok(Change::Domain(other)) if other != domain => {}
            // Of it, or of so many that it may be among them.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
            // The clock wakes whoever waits.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Why a daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibvirtError {
    /// The daemon refused.
    #[error("libvirt error {code}: {message}")]
    Refused {
        /// Its number, of `virErrorNumber`.
        code: i32,
        /// What the daemon says.
        message: String,
    },
    /// There is nobody to ask.
    #[error("no libvirt daemon at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why it was not found.
        source: io::Error,
    },
    /// The daemon wants to know who asks in a way that this connection does not speak.
    #[error("the libvirt daemon asks for a way to authenticate that is not supported")]
    Unauthenticated,
    /// The connection ended while somebody waited for an answer.
    #[error("the connection to the libvirt daemon was lost")]
    Lost,
    /// The daemon starts no guests of a kind that is known here.
    #[error("the libvirt daemon starts no guests of a kind that is known here")]
    NoGuests,
    /// What was said cannot be put into a message, or what was answered does not read.
    #[error("a message of libvirt: {reason}")]
    Message {
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl LibvirtError {
    /// What a caller should do about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Lost | Self::Refused { .. } => Class::Retry,
            Self::Unauthenticated | Self::NoGuests => Class::Permanent,
            Self::Message { .. } => Class::Bug,
        }
    }

    /// Whether the daemon has no such domain.
    pub(crate) fn is_no_domain(&self) -> bool {
        matches!(self, Self::Refused { code: 42, .. })
    }

    /// Whether a container was started so lately that its first process is not known yet, without
    /// which nothing is plugged into it.
    pub(crate) fn is_too_early(&self) -> bool {
        matches!(self, Self::Refused { code: 55, message } if message.contains("init PID"))
    }

    /// Whether the host has no such device.
    pub(crate) fn is_no_node_device(&self) -> bool {
        matches!(self, Self::Refused { code: 53, .. })
    }

    /// Whether the domain is in a state in which this cannot be done.
    pub(crate) fn is_wrong_state(&self) -> bool {
        matches!(self, Self::Refused { code: 55, .. })
    }

    /// Whether the domain has no such device.
    pub(crate) fn is_no_device(&self) -> bool {
        matches!(self, Self::Refused { code: 99, .. })
    }
}

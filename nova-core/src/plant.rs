//! Known mistakes that can be made on purpose, to see that they are found.
//!
//! Without the feature `testing` [`planted`] is always false, and the compiler leaves the
//! mistakes out. With it, a mistake is made only on a thread that asked for it. The same holds for
//! the [`Probe`](crate::testing) that a runner meets at every moment of every step.

use crate::cloud::steps::{Doing, Moment};
use crate::domain::OpId;

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident $name:literal;)+) => {
        /// A mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(not(feature = "testing"), allow(dead_code, unreachable_pub))]
        #[non_exhaustive]
        pub enum Bug {
            $($(#[$doc])* $bug,)+
        }

        #[cfg_attr(not(feature = "testing"), allow(dead_code, unreachable_pub))]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)+ }
            }
        }
    };
}

bugs! {
    /// What was made on a host is not removed when its operation goes back, nor by a sweep, which
    /// would make it good.
    SkipUndo "skip-undo";
    /// A claim does not write the ledger of its host.
    SkipHostLedger "skip-host-ledger";
    /// A claim does not write the ledger of its group.
    SkipGroupLedger "skip-group-ledger";
    /// A request does not write the ledger of its project.
    SkipProjectLedger "skip-project-ledger";
    /// A request is answered before it is committed.
    AnswerFirst "answer-first";
    /// A host carries out orders that are out of date.
    AnyGeneration "any-generation";
    /// An address is free at once when it is given back.
    NoQuarantine "no-quarantine";
    /// An operation that gives its place back keeps its addresses.
    KeepAddresses "keep-addresses";
    /// A server that is deleted leaves its claim behind.
    KeepClaim "keep-claim";
    /// An operation that has ended stays open.
    StayOpen "stay-open";
    /// Nobody knows, and it counts as done.
    UnknownIsDone "unknown-is-done";
    /// It was not done, and it counts as done.
    NotDoneIsDone "not-done-is-done";
    /// Guests without record are left where they are.
    ReapNothing "reap-nothing";
    /// A sweep writes to servers that are being worked on.
    SweepBusyServers "sweep-busy-servers";
    /// A volume is taken from its host without the host's word.
    UnpluggedUnasked "unplugged-unasked";
    /// A result is recorded and the server's task stays.
    KeepTask "keep-task";
    /// A request is accepted without its request id.
    ForgetRequest "forget-request";
    /// A request that is repeated gets a new answer.
    AnswerAnew "answer-anew";
    /// Hosts that fall silent are never down.
    NeverDown "never-down";
    /// A full host is chosen, and the claim does not look.
    Overcommit "overcommit";
    /// An operation that was left is never taken up.
    NeverSweep "never-sweep";
    /// An operation that was taken over goes on all the same.
    NeverSuperseded "never-superseded";
    /// A volume of a deleted server stays connected to its host.
    StayConnected "stay-connected";
    /// A floating IP of a deleted server leads on to nobody.
    LeadNowhere "lead-nowhere";
    /// A move that is over leaves the claim where the server came from.
    KeepOldClaim "keep-old-claim";
    /// A guest that moves is not shut down where it was, its host packs it all the same, and it
    /// goes on at both ends.
    RunTwice "run-twice";
    /// Floating IPs still lead to the host that their server has left.
    LeadBehind "lead-behind";
    /// Calls to the volume driver do not say to which attempt they belong.
    NoFence "no-fence";
    /// A host that is silent counts as one that has said that a guest is gone.
    HeedSilence "heed-silence";
}

#[cfg(feature = "testing")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this mistake is to be made now.
#[cfg(feature = "testing")]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.with(|planted| planted.get() == Some(bug))
}

/// Whether this mistake is to be made now: never.
#[cfg(not(feature = "testing"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

/// Makes a mistake on this thread from now on, or none; tells which was made before.
#[cfg(feature = "testing")]
pub(crate) fn plant(bug: Option<Bug>) -> Option<Bug> {
    PLANTED.with(|planted| planted.replace(bug))
}

/// A runner is here. With a probe on this thread, it may have to wait until somebody has died.
#[cfg(feature = "testing")]
pub(crate) async fn reach(op: OpId, doing: Doing, moment: Moment) {
    let probe = PROBE.with(|probe| probe.borrow().clone());
    if let Some(probe) = probe {
        probe.reach(op, doing, moment).await;
    }
}

/// A runner is here: nobody wants to know.
#[cfg(not(feature = "testing"))]
pub(crate) async fn reach(_: OpId, _: Doing, _: Moment) {}

/// Whether what was done has to count as refused.
#[cfg(feature = "testing")]
pub(crate) fn refused(op: OpId, doing: Doing) -> bool {
    PROBE.with(|probe| probe.borrow().as_ref().is_some_and(|probe| probe.refuses(op, doing)))
}

/// Whether what was done has to count as refused: never.
#[cfg(not(feature = "testing"))]
pub(crate) const fn refused(_: OpId, _: Doing) -> bool {
    false
}

#[cfg(feature = "testing")]
thread_local! {
    static PROBE: std::cell::RefCell<Option<std::sync::Arc<crate::testing::Probe>>> =
        const { std::cell::RefCell::new(None) };
}

/// Puts a probe on this thread, or takes it away.
#[cfg(feature = "testing")]
pub(crate) fn probe(probe: Option<std::sync::Arc<crate::testing::Probe>>) {
    PROBE.with(|here| *here.borrow_mut() = probe);
}

//! What a connection is besides what it says: how much it takes, and that it is made anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nova_core::domain::InstanceId;
use nova_core::port::VirtDriver;
use nova_virt::domain::Hypervisor;
use nova_virt::libvirt::Libvirtd;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::lab::{self, Way};

/// The usual daemon's socket.
const SOCKET: &str = "/run/libvirt/libvirt-sock";

/// Questions that are asked in a row.
const QUESTIONS: usize = 3000;

/// Of those, how many at a time.
const AT_A_TIME: usize = 40;

/// What other tests of this process may have open meanwhile, and threads that wait to be used
/// again; far less than was asked.
const OTHERS_MAX: usize = 200;

/// The files and the threads that this process has.
fn held() -> [usize; 2] {
    ["/proc/self/fd", "/proc/self/task"].map(|all| std::fs::read_dir(all).unwrap().count())
}

fn host(libvirtd: Libvirtd) -> impl VirtDriver + Clone {
    lab::host(libvirtd, Hypervisor::Test, Duration::from_secs(5))
}

#[tokio::test]
async fn thousands_of_calls_leave_no_file_and_no_thread() {
    if !lab::is_here("thousands_of_calls_leave_no_file_and_no_thread") {
        return;
    }
    for way in Way::ALL {
        let host = host(through(*way, Path::new(SOCKET)));
        host.facts().await.unwrap();
        let before = held();
        let mut askers = JoinSet::new();
        for asker in 0..AT_A_TIME {
            let host = host.clone();
            askers.spawn(async move {
                for _ in 0..QUESTIONS / AT_A_TIME {
                    let nobody = InstanceId::from_u128(asker as u128);
                    assert_eq!(host.guest(nobody).await.unwrap(), None);
                    host.guests().await.unwrap();
                }
            });
        }
        askers.join_all().await;
        let after = held();
        for (before, after) in before.into_iter().zip(after) {
            assert!(after < before + OTHERS_MAX, "{way:?}: from {before} to {after}");
        }
    }
}

/// A socket before the daemon's, which can hang up on those who use it.
struct Between {
    socket: PathBuf,
    calls: JoinSet<()>,
}

impl Between {
    fn new() -> Self {
        let socket = lab::folder("between").join("socket");
        let (listener, mut calls) = (UnixListener::bind(&socket).unwrap(), JoinSet::new());
        calls.spawn(serve(listener));
        Self { socket, calls }
    }

    /// Ends all connections, and goes on.
    async fn hang_up(&mut self) {
        self.calls.shutdown().await;
        std::fs::remove_file(&self.socket).unwrap();
        self.calls.spawn(serve(UnixListener::bind(&self.socket).unwrap()));
    }
}

async fn serve(listener: UnixListener) {
    let mut calls = JoinSet::new();
    while let Ok((mut caller, _)) = listener.accept().await {
        calls.spawn(async move {
            let mut daemon = UnixStream::connect(SOCKET).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut caller, &mut daemon).await;
        });
    }
}

/// The daemon's driver for tests; the library has one of its own as well.
fn through(way: Way, socket: &Path) -> Libvirtd {
    match way {
        #[cfg(feature = "libvirt-native")]
        Way::Native => Libvirtd::native_at("test:///default", socket),
        #[cfg(feature = "libvirt")]
        Way::Library => way.to(&format!("test+unix:///default?socket={}", socket.display())),
    }
}

/// One question may meet the end of the old connection; not two.
async fn at_last(host: &impl VirtDriver) {
    if host.guests().await.is_err() {
        host.guests().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_was_lost_is_made_anew() {
    if !lab::is_here("a_connection_that_was_lost_is_made_anew") {
        return;
    }
    for way in Way::ALL {
        let mut between = Between::new();
        let host = host(through(*way, &between.socket));
        for _ in 0..20 {
            host.facts().await.unwrap();
            between.hang_up().await;
            at_last(&host).await;
        }
        let before = held();
        for _ in 0..50 {
            between.hang_up().await;
            at_last(&host).await;
        }
        let after = held();
        assert!(after[0] < before[0] + 40, "{way:?}: from {before:?} to {after:?}");
        // Nobody to be found: said, and found again later.
        between.calls.shutdown().await;
        std::fs::remove_file(&between.socket).unwrap();
        assert!(host.guests().await.is_err(), "{way:?}");
        between.calls.spawn(serve(UnixListener::bind(&between.socket).unwrap()));
        host.guests().await.unwrap();
    }
}

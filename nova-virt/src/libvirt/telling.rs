//! What the daemon tells of guests.

use async_trait::async_trait;
use nova_core::port::{GuestChange, HearChanges, TellChanges};
use tokio::sync::broadcast;

use super::daemon::Change;
use super::host::{LibvirtHost, guest_of};

impl TellChanges for LibvirtHost {
    fn changes(&self) -> Box<dyn HearChanges> {
        Box::new(Listener(self.inner.daemon().changes()))
    }
}

#[derive(Debug)]
struct Listener(broadcast::Receiver<Change>);

#[async_trait]
impl HearChanges for Listener {
    async fn next(&mut self) -> Option<GuestChange> {
        match self.0.recv().await {
            Ok(Change::Domain(domain)) => Some(GuestChange::Guest(guest_of(domain))),
            Ok(Change::Anything) | Err(broadcast::error::RecvError::Lagged(_)) => {
                Some(GuestChange::Anything)
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

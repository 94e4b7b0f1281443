//! The steps that make images of servers' disks.

use crate::class::Class;
use crate::cloud::attempt::{Attempt, idle};
use crate::cloud::attempt_server::server_id;
use crate::cloud::error::chain;
use crate::cloud::linger::is_lost;
use crate::cloud::order::{Order, Report};
use crate::cloud::runner::Runner;
use crate::cloud::view::View;
use crate::domain::{
    HostId, Image, ImageContent, ImageId, ImageState, Instance, InstanceId, OpKind, Operation,
};
use crate::port::ImageError;
use crate::store::record::{LateImage, keys};
use crate::store::{StoreError, Txn, Versioned};

impl Runner {
    /// Stores the guest's root disk as the operation's image. The image stays unusable.
    pub(crate) async fn capture(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(id) = image_of(&op.kind) else {
            return Ok(self.hopeless(format!("{} takes no image", op.kind.word())));
        };
        let Some(server) = self.server_of(op).await? else {
            return Ok(self.hopeless("the server is gone"));
        };
        let Some(image) = self.fresh().await?.images.get(&keys::image(id)).cloned() else {
            return Ok(self.hopeless("the image is gone"));
        };
        let content = match self.stored(op, &server.value, &image.value).await? {
            Ok(content) => content,
            Err(attempt) => return Ok(attempt),
        };
        let mut txn = Txn::new();
        txn.replace(&image, &Image { content, ..image.value.clone() });
        Ok(Attempt::Done(txn))
    }

    /// What the image store has of the image, after the host has stored it if it had to.
    async fn stored(
        &self,
        op: &Operation,
        server: &Instance,
        image: &Image,
    ) -> Result<Result<ImageContent, Attempt>, StoreError> {
        // A put that was cut short left nothing; one that was not is whole, and only this
        // operation knows the id.
        match self.ports.images.content(image.id).await {
            Ok(Some(content)) => return Ok(Ok(content)),
            Ok(None) => {}
            Err(error) => return Ok(Err(self.image_failed(&error))),
        }
        let Some(host) = server.host else {
            return Ok(Err(self.hopeless("the server has no host")));
        };
        let order = Order::Snapshot { instance: server.id, image: image.id, format: image.format };
        Ok(match self.order_if_up(op, host, order).await? {
            Some(Report::Stored(content)) => Ok(content),
            Some(Report::Done { .. }) => Err(self.hopeless("the host stored no image")),
            Some(report) => Err(self.attempt_of(report)),
            None => Err(Attempt::Absent),
        })
    }

    /// Removes the operation's image, bytes and record.
    pub(crate) async fn uncapture(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let Some(id) = image_of(&op.kind) else { return Ok(Attempt::Done(Txn::new())) };
        let image = self.fresh().await?.images.get(&keys::image(id)).cloned();
        let host = self.server_of(op).await?.and_then(|server| server.value.host);
        self.drop_images(&Vec::from_iter(image), host).await
    }

    /// Removes images, with whatever `host` is still storing: first they are marked, so that who
    /// stores them too late takes it back, then the bytes go, then the records. What may come even
    /// later is written down for the host.
    pub(crate) async fn drop_images(
        &self,
        images: &[Versioned<Image>],
        host: Option<HostId>,
    ) -> Result<Attempt, StoreError> {
        let mut txn = Txn::new();
        let unmarked = |image: &&Versioned<Image>| image.value.state != ImageState::Discarded;
        for image in images.iter().filter(unmarked) {
            let state = ImageState::Discarded;
            txn.replace(image, &Image { state, ..image.value.clone() });
        }
        if !txn.writes().is_empty() {
            let reason = "the images were marked, and are removed next".to_owned();
            return Ok(Attempt::Again { txn, reason });
        }
        for image in images {
            if let Err(error) = self.ports.images.remove(image.value.id).await {
                return Ok(self.image_failed(&error));
            }
            txn.remove(image);
            late(&*self.fresh().await?, &image.value, host, &mut txn);
        }
        Ok(Attempt::Done(txn))
    }

    /// The image may be used, and nothing is being done to the server any more.
    pub(crate) async fn finish_snapshot(&self, op: &mut Operation) -> Result<Attempt, StoreError> {
        let view = self.fresh().await?;
        let server = view.instances.get(&keys::instance(server_id(op)));
        let image = image_of(&op.kind).and_then(|id| view.images.get(&keys::image(id)));
        let (Some(server), Some(image)) = (server, image) else {
            return Ok(self.hopeless("the server or its image is gone"));
        };
        if image.value.state != ImageState::Saving {
            return Ok(self.hopeless("the image was given up"));
        }
        let mut txn = Txn::new();
        txn.replace(image, &Image { state: ImageState::Active, ..image.value.clone() });
        txn.replace(server, &Instance { fault: None, ..idle(&server.value) });
        Ok(Attempt::Done(txn))
    }

    /// What a failure of the image store means for the step.
    pub(crate) fn image_failed(&self, error: &ImageError) -> Attempt {
        let retry = error.class() == Class::Retry;
        Attempt::NotDone { fault: self.fault(format!("images: {}", chain(error))), retry }
    }
}

/// The image that an operation makes.
fn image_of(kind: &OpKind) -> Option<ImageId> {
    match kind {
        OpKind::Snapshot { image, .. } | OpKind::Shelve { image, .. } => Some(*image),
        _ => None,
    }
}

/// Writes into `txn` that a host may still be storing an image that is given up.
pub(crate) fn late(view: &View, image: &Image, host: Option<HostId>, txn: &mut Txn) {
    let (Some(host), Some(instance)) = (host, image.server) else { return };
    if image.is_whole() || is_lost(view.hosts.get(&keys::host(host))) {
        return;
    }
    let known = view.late_images.get(&keys::late_image(host, image.id));
    txn.touch(known, &LateImage { host, image: image.id, instance });
}

/// The images that are being taken of a server, or that its disk is in: they are nothing without
/// it.
pub(crate) fn unfinished_images(
    view: &View,
    server: InstanceId,
) -> impl Iterator<Item = &Versioned<Image>> {
    view.images.values().filter(move |image| {
        image.value.server == Some(server) && image.value.state != ImageState::Active
    })
}

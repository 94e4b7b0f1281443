//! The law of hosts that keep images.

use std::collections::BTreeSet;

use super::{Subject, World, done};
use crate::port::CACHED_IMAGES_MAX;

/// Where a guest is, its image is; images are told once, and not too many.
pub async fn the_image_of_a_guest_is_cached(subject: impl Into<Subject>) {
    let world = World::new(subject, "the_image_of_a_guest_is_cached").await;
    let Some(caching) = world.driver().caching() else { return };
    for number in [0, 1] {
        world.create(number).await;
        let told = done(caching.cached_images().await);
        let image = &world.spec(number).image.content.sha256;
        assert!(told.contains(image), "{}: {image} is not among {told:?}", world.driver());
        let each: BTreeSet<&String> = told.iter().collect();
        assert!(each.len() == told.len() && told.len() <= CACHED_IMAGES_MAX, "{told:?}");
    }
    world.clean().await;
}

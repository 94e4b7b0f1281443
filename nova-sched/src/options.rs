//! What filters and weighers have to be told.

use std::collections::BTreeSet;

use nova_core::domain::{HostName, ImageId, Invalid};

/// What the filters and weighers of a policy have to be told, under Nova's names and with its
/// defaults.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// From how many servers that are heavy on the disk a host takes no more: `io-ops`, and
    /// `aggregate-io-ops` where an aggregate says nothing else.
    pub max_io_ops_per_host: u32,
    /// From how many servers a host takes no more: `num-instances`, and `aggregate-num-instances`
    /// where an aggregate says nothing else.
    pub max_instances_per_host: u32,
    /// The hosts of `isolated-hosts`.
    pub isolated_hosts: BTreeSet<HostName>,
    /// The images of `isolated-hosts`.
    pub isolated_images: BTreeSet<ImageId>,
    /// Whether the former take the latter only.
    pub restrict_isolated_hosts_to_isolated_images: bool,
    /// The architecture of images that say none: `image-properties`.
    pub image_properties_default_architecture: Option<String>,
    /// With what the keys of aggregates begin that count for `aggregate-image-properties`.
    pub aggregate_image_properties_isolation_namespace: Option<String>,
    /// What follows that beginning.
    pub aggregate_image_properties_isolation_separator: String,
    /// What common properties of images count for `image-props`.
    pub image_props_weight_setting: Vec<Ratio>,
    /// What metrics count for the weigher `metrics`; the filter wants every host to report them.
    pub metrics_weight_setting: Vec<Ratio>,
    /// Whether a host must report them to be weighed.
    pub metrics_required: bool,
    /// What a host that need not, and does not, weighs.
    pub metrics_weight_of_unavailable: f64,
}

/// How much something counts that has a name.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
// Exhaustive on purpose: a name and a number, so that it can be written down as such.
pub struct Ratio {
    /// The name.
    pub name: String,
    /// How much it counts.
    pub ratio: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_io_ops_per_host: 8,
            max_instances_per_host: 50,
            isolated_hosts: BTreeSet::new(),
            isolated_images: BTreeSet::new(),
            restrict_isolated_hosts_to_isolated_images: true,
            image_properties_default_architecture: None,
            aggregate_image_properties_isolation_namespace: None,
            aggregate_image_properties_isolation_separator: ".".to_owned(),
            image_props_weight_setting: Vec::new(),
            metrics_weight_setting: Vec::new(),
            metrics_required: true,
            metrics_weight_of_unavailable: -10_000.0,
        }
    }
}

impl Options {
    /// Whether every number is one.
    ///
    /// # Errors
    /// [`Invalid`] names the first that is infinite or no number.
    pub fn check(&self) -> Result<(), Invalid> {
        let ratios = [
            ("options.image_props_weight_setting", &self.image_props_weight_setting),
            ("options.metrics_weight_setting", &self.metrics_weight_setting),
        ];
        for (field, ratios) in ratios {
            if let Some(bad) = ratios.iter().find(|ratio| !ratio.ratio.is_finite()) {
                let said = format!("{} = {}", bad.name, bad.ratio);
                return Err(Invalid::new(field, said, "finite numbers"));
            }
        }
        let unavailable = self.metrics_weight_of_unavailable;
        if !unavailable.is_finite() {
            let field = "options.metrics_weight_of_unavailable";
            return Err(Invalid::new(field, unavailable, "a finite number"));
        }
        Ok(())
    }
}

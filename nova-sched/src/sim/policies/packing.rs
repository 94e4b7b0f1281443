//! Vectors of resources: what is free on a host, and what a request takes.

use nova_core::domain::{HostState, RequestSpec};

use super::shares;
use crate::Weigher;

/// The product of the free and the wanted vector, each resource as a share of the host's capacity:
/// large requests go where much is free of what they want. Alignment of Grandl et al.,
/// "Multi-resource Packing for Cluster Schedulers" (SIGCOMM 2014).
#[derive(Debug, Default, Clone, Copy)]
pub struct DotProduct;

impl Weigher for DotProduct {
    fn name(&self) -> &str {
        "dot-product"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        shares(host, request).map(|(free, wanted)| free * wanted).fold(0.0, |a, b| a + b)
    }
}

/// The cosine of the angle between both vectors: 1 where a host would be left with as much of
/// everything, in the proportion of the request; 0 where nothing is free.
#[derive(Debug, Default, Clone, Copy)]
pub struct Cosine;

impl Weigher for Cosine {
    fn name(&self) -> &str {
        "cosine"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        let (mut product, mut free_square, mut wanted_square) = (0.0, 0.0, 0.0);
        for (free, wanted) in shares(host, request) {
            product += free * wanted;
            free_square += free * free;
            wanted_square += wanted * wanted;
        }
        let lengths = f64::sqrt(free_square) * f64::sqrt(wanted_square);
        if lengths > 0.0 { product / lengths } else { 0.0 }
    }
}

/// Minus the sum of squares of what a host would be left with: the norm-based greedy rule of
/// Panigrahy et al., "Heuristics for Vector Bin Packing" (2011), with equal weights.
#[derive(Debug, Default, Clone, Copy)]
pub struct L2Norm;

impl Weigher for L2Norm {
    fn name(&self) -> &str {
        "l2-norm"
    }

    fn weigh(&self, host: &HostState, request: &RequestSpec) -> f64 {
        let squares = shares(host, request).map(|(free, wanted)| (free - wanted).powi(2));
        -squares.fold(0.0, |a, b| a + b)
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{GiB, InstanceId, MiB, Resources, Vcpus};

    use super::*;
    use crate::sim::policies::asks;
    use crate::testkit::host;

    /// A host of 8 vCPU, 8192 MiB and 100 GiB with these used, and a request for 2 vCPU, 1024 MiB.
    fn check(weigher: impl Weigher, vcpus: u32, memory: u64, expected: f64) {
        let mut row = host(1);
        let used = Resources { vcpus: Vcpus(vcpus), memory: MiB(memory), disk: GiB(0) };
        row.claim(InstanceId::from_u128(7), used);
        let weight = weigher.weigh(&row, &asks(2, 1024));
        assert!((weight - expected).abs() < 1e-12, "{}: {weight}", weigher.name());
    }

    #[test]
    fn vectors_are_shares_of_the_host() {
        // Free: 4/8, 6/8 and all of the disk; wanted: 2/8, 1/8, none.
        check(DotProduct, 4, 2048, 0.5 * 0.25 + 0.75 * 0.125);
        let lengths = (0.5_f64.powi(2) + 0.75_f64.powi(2) + 1.0).sqrt()
            * (0.25_f64.powi(2) + 0.125_f64.powi(2)).sqrt();
        check(Cosine, 4, 2048, (0.5 * 0.25 + 0.75 * 0.125) / lengths);
        check(L2Norm, 4, 2048, -(0.25_f64.powi(2) + 0.625_f64.powi(2) + 1.0));
    }
}

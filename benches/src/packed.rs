//! A reference: packed columns of what is free, scanned from end to end.

use crate::stream::Shape;
use crate::{Rule, VCPUS, quanta};

/// Free vCPUs and memory of every host, and nothing else.
#[derive(Debug)]
pub struct Packed {
    rule: Rule,
    vcpus: Vec<f32>,
    quanta: Vec<f32>,
}

impl Packed {
    /// So many empty hosts.
    pub fn new(hosts: usize, rule: Rule) -> Self {
        Self { rule, vcpus: vec![VCPUS as f32; hosts], quanta: vec![quanta() as f32; hosts] }
    }

    /// Takes what a server of this shape needs from a host.
    pub fn claim(&mut self, host: usize, shape: Shape) {
        self.vcpus[host] -= shape.vcpus as f32;
        self.quanta[host] -= shape.quanta as f32;
    }

    /// Gives it back.
    pub fn release(&mut self, host: usize, shape: Shape) {
        self.vcpus[host] += shape.vcpus as f32;
        self.quanta[host] += shape.quanta as f32;
    }

    /// The best host; of equally good ones the first.
    pub fn best(&self, shape: Shape) -> Option<usize> {
        let (want_vcpus, want_quanta) = (shape.vcpus as f32, shape.quanta as f32);
        let columns = || self.vcpus.iter().zip(&self.quanta);
        let fits = |v: f32, q: f32| v >= want_vcpus && q >= want_quanta;
        let sign = match self.rule {
            Rule::BestFit => 1.0,
            Rule::WorstFit => -1.0,
            Rule::Nova => {
                let (most_vcpus, most_quanta) =
                    (-self.least(shape, |v, _| -v), -self.least(shape, |_, q| -q));
                if most_vcpus == f32::NEG_INFINITY {
                    return None;
                }
                let score = |v: f32, q: f32| Rule::nova_score(v, q, most_vcpus, most_quanta);
                let mut best: Option<(f64, usize)> = None;
                for (at, (v, q)) in columns().enumerate() {
                    if fits(*v, *q) {
                        let score = score(*v, *q);
                        if best.is_none_or(|(known, _)| score > known) {
                            best = Some((score, at));
                        }
                    }
                }
                return best.map(|(_, at)| at);
            }
        };
        let least =
            if sign > 0.0 { self.least(shape, |v, _| v) } else { self.least(shape, |v, _| -v) };
        if least == f32::INFINITY {
            return None;
        }
        columns().position(|(v, q)| *v * sign == least && fits(*v, *q))
    }

    /// The least key of the hosts with room; infinite where there is none.
    fn least(&self, shape: Shape, key: impl Fn(f32, f32) -> f32) -> f32 {
        let (want_vcpus, want_quanta) = (shape.vcpus as f32, shape.quanta as f32);
        // Without a branch, so that the compiler works on several hosts at once.
        let key = |v: f32, q: f32| {
            let fits = (v >= want_vcpus) & (q >= want_quanta);
            let key = key(v, q);
            if fits { key } else { f32::INFINITY }
        };
        let mut least = [f32::INFINITY; 8];
        let (vcpus, quanta) = (self.vcpus.chunks_exact(8), self.quanta.chunks_exact(8));
        let rest = vcpus.remainder().iter().zip(quanta.remainder());
        for (vcpus, quanta) in vcpus.zip(quanta) {
            for lane in 0..8 {
                let key = key(vcpus[lane], quanta[lane]);
                least[lane] = if key < least[lane] { key } else { least[lane] };
            }
        }
        let rest = rest.map(|(v, q)| key(*v, *q));
        least.into_iter().chain(rest).fold(f32::INFINITY, f32::min)
    }
}

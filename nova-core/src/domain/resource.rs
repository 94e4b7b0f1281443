//! What a host has, what a guest takes, and whether the one fits into the other.

use crate::domain::{AllocationRatio, GiB, Invalid, MiB, Vcpus};

/// An amount of each resource that placement counts.
#[derive(
    Debug, Default, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Resources {
    /// Virtual CPUs.
    pub vcpus: Vcpus,
    /// Memory.
    pub memory: MiB,
    /// Local disk.
    pub disk: GiB,
}

impl Resources {
    /// Nothing.
    pub const ZERO: Self = Self { vcpus: Vcpus::ZERO, memory: MiB::ZERO, disk: GiB::ZERO };

    /// The sum of both, resource by resource, stopping at the largest number there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_add(other.vcpus),
            memory: self.memory.saturating_add(other.memory),
            disk: self.disk.saturating_add(other.disk),
        }
    }

    /// What is left of `self` without `other`, resource by resource, stopping at zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.saturating_sub(other.vcpus),
            memory: self.memory.saturating_sub(other.memory),
            disk: self.disk.saturating_sub(other.disk),
        }
    }
}

impl std::iter::Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// A kind of resource, for messages and tables.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResourceKind {
    /// Virtual CPUs.
    Vcpus,
    /// Memory, in mebibytes.
    Memory,
    /// Local disk, in gibibytes.
    Disk,
}

impl ResourceKind {
    /// Every kind, in the order in which they are checked and shown.
    pub const ALL: [Self; 3] = [Self::Vcpus, Self::Memory, Self::Disk];

    /// The amount of this kind in `resources`, as a plain number of the kind's unit.
    pub const fn of(self, resources: &Resources) -> u64 {
        match self {
            Self::Vcpus => resources.vcpus.0 as u64,
            Self::Memory => resources.memory.0,
            Self::Disk => resources.disk.0,
        }
    }
}

impl std::fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Vcpus => "vcpus",
            Self::Memory => "memory",
            Self::Disk => "disk",
        })
    }
}

/// One resource of one host: how much there is, how much the host keeps, how far it is promised.
///
/// The capacity is `(total - reserved) * ratio`, a fraction that is not rounded, as Nova's
/// placement computes it when it claims.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "StockFields<Q>", into = "StockFields<Q>")]
#[serde(bound(
    serialize = "Q: Quantity + serde::Serialize",
    deserialize = "Q: Quantity + serde::Deserialize<'de>"
))]
pub struct Stock<Q: Quantity> {
    total: Q,
    reserved: Q,
    ratio: AllocationRatio,
    units: Units,
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct StockFields<Q> {
    total: Q,
    reserved: Q,
    ratio: AllocationRatio,
    #[serde(default)]
    units: Units,
}

/// In which amounts one guest may have a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Units {
    /// The least; at least 1.
    pub min: u64,
    /// The most; none is the total, so that no guest over-commits against itself.
    pub max: Option<u64>,
    /// Every amount is a multiple of this; at least 1.
    pub step: u64,
}

impl Default for Units {
    /// Any amount from one unit to the total.
    fn default() -> Self {
        Self { min: 1, max: None, step: 1 }
    }
}

/// A unit that can be stocked: [`Vcpus`], [`MiB`] or [`GiB`].
pub trait Quantity: Copy + Default + Ord + std::fmt::Display {
    /// The amount as a plain number.
    fn amount(self) -> u64;
}

impl Quantity for Vcpus {
    fn amount(self) -> u64 {
        u64::from(self.0)
    }
}

impl Quantity for MiB {
    fn amount(self) -> u64 {
        self.0
    }
}

impl Quantity for GiB {
    fn amount(self) -> u64 {
        self.0
    }
}

impl<Q: Quantity> Stock<Q> {
    /// A stock without reserve and without over-commit.
    pub fn new(total: Q) -> Self {
        Self { total, reserved: Q::default(), ratio: AllocationRatio::ONE, units: Units::default() }
    }

    /// Keeps `reserved` for the host itself.
    ///
    /// # Errors
    /// [`Invalid`] when more is reserved than there is.
    pub fn with_reserved(self, reserved: Q) -> Result<Self, Invalid> {
        if reserved <= self.total {
            Ok(Self { reserved, ..self })
        } else {
            Err(Invalid::new("reserved", reserved, "at most the total"))
        }
    }

    /// Promises `ratio` units for each that is there.
    #[must_use]
    pub fn with_ratio(self, ratio: AllocationRatio) -> Self {
        Self { ratio, ..self }
    }

    /// Gives it out only in these amounts.
    ///
    /// # Errors
    /// [`Invalid`] when the least amount or the step is zero, or the least is above the most.
    pub fn with_units(self, units: Units) -> Result<Self, Invalid> {
        if units.min == 0 || units.step == 0 || units.max.is_some_and(|max| max < units.min) {
            let allowed = "min and step of at least 1, max of at least min";
            return Err(Invalid::new("units", format!("{units:?}"), allowed));
        }
        Ok(Self { units, ..self })
    }

    /// How much there is.
    pub fn total(&self) -> Q {
        self.total
    }

    /// How much the host keeps for itself.
    pub fn reserved(&self) -> Q {
        self.reserved
    }

    /// How far the rest is promised.
    pub fn ratio(&self) -> AllocationRatio {
        self.ratio
    }

    /// In which amounts one guest may have it.
    pub fn units(&self) -> Units {
        self.units
    }

    /// What may be promised in all: `(total - reserved) * ratio`.
    pub fn capacity(&self) -> f64 {
        (self.total.amount() - self.reserved.amount()) as f64 * self.ratio.get()
    }

    /// The most that one guest may have. Unless [`units`](Self::units) say otherwise that is all
    /// there is: a guest may not over-commit against itself, however high the ratio.
    pub fn most(&self) -> u64 {
        self.units.max.unwrap_or(self.total.amount())
    }

    /// Whether `wanted` fits beside `used`. Nothing fits anywhere.
    pub fn fits(&self, used: Q, wanted: Q) -> bool {
        let (used, wanted) = (used.amount(), wanted.amount());
        let allowed = wanted >= self.units.min
            && wanted <= self.most()
            && wanted.is_multiple_of(self.units.step);
        wanted == 0 || (allowed && (used as f64 + wanted as f64) <= self.capacity())
    }
}

impl<Q: Quantity> TryFrom<StockFields<Q>> for Stock<Q> {
    type Error = Invalid;

    fn try_from(fields: StockFields<Q>) -> Result<Self, Invalid> {
        Self::new(fields.total)
            .with_ratio(fields.ratio)
            .with_reserved(fields.reserved)?
            .with_units(fields.units)
    }
}

impl<Q: Quantity> From<Stock<Q>> for StockFields<Q> {
    fn from(stock: Stock<Q>) -> Self {
        Self {
            total: stock.total,
            reserved: stock.reserved,
            ratio: stock.ratio,
            units: stock.units,
        }
    }
}

/// Everything a host offers.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Inventory {
    /// Virtual CPUs.
    pub vcpus: Stock<Vcpus>,
    /// Memory.
    pub memory: Stock<MiB>,
    /// Local disk.
    pub disk: Stock<GiB>,
}

impl Inventory {
    /// An inventory without reserves and without over-commit.
    pub fn new(total: Resources) -> Self {
        Self {
            vcpus: Stock::new(total.vcpus),
            memory: Stock::new(total.memory),
            disk: Stock::new(total.disk),
        }
    }

    /// Promises `ratio` units of a resource for each that is there.
    #[must_use]
    pub fn with_ratio(mut self, kind: ResourceKind, ratio: AllocationRatio) -> Self {
        match kind {
            ResourceKind::Vcpus => self.vcpus = self.vcpus.with_ratio(ratio),
            ResourceKind::Memory => self.memory = self.memory.with_ratio(ratio),
            ResourceKind::Disk => self.disk = self.disk.with_ratio(ratio),
        }
        self
    }

    /// Keeps so much of a resource, in its unit, for the host itself.
    ///
    /// # Errors
    /// [`Invalid`] when more is reserved than there is.
    pub fn with_reserved(mut self, kind: ResourceKind, amount: u64) -> Result<Self, Invalid> {
        match kind {
            ResourceKind::Vcpus => {
                let vcpus = u32::try_from(amount).map(Vcpus);
                let too_many = |_| Invalid::new("reserved", amount, "at most the total");
                self.vcpus = self.vcpus.with_reserved(vcpus.map_err(too_many)?)?;
            }
            ResourceKind::Memory => self.memory = self.memory.with_reserved(MiB(amount))?,
            ResourceKind::Disk => self.disk = self.disk.with_reserved(GiB(amount))?,
        }
        Ok(self)
    }

    /// Everything there is, before reserves and ratios.
    pub fn total(&self) -> Resources {
        Resources {
            vcpus: self.vcpus.total(),
            memory: self.memory.total(),
            disk: self.disk.total(),
        }
    }

    /// The first kind of resource of which `wanted` does not fit beside `used`; none when it fits.
    pub fn lacks(&self, used: &Resources, wanted: &Resources) -> Option<ResourceKind> {
        if !self.vcpus.fits(used.vcpus, wanted.vcpus) {
            Some(ResourceKind::Vcpus)
        } else if !self.memory.fits(used.memory, wanted.memory) {
            Some(ResourceKind::Memory)
        } else if !self.disk.fits(used.disk, wanted.disk) {
            Some(ResourceKind::Disk)
        } else {
            None
        }
    }

    /// The first kind of resource of which more is `used` than may be promised; none when it is not.
    pub fn exceeded(&self, used: &Resources) -> Option<ResourceKind> {
        let over = |kind: &ResourceKind| kind.of(used) as f64 > self.capacity(*kind);
        ResourceKind::ALL.into_iter().find(over)
    }

    /// The capacity of one kind: `(total - reserved) * ratio`.
    pub fn capacity(&self, kind: ResourceKind) -> f64 {
        match kind {
            ResourceKind::Vcpus => self.vcpus.capacity(),
            ResourceKind::Memory => self.memory.capacity(),
            ResourceKind::Disk => self.disk.capacity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(total: u64, reserved: u64, ratio: f64) -> Stock<MiB> {
        let ratio = AllocationRatio::new(ratio).unwrap();
        Stock::new(MiB(total)).with_ratio(ratio).with_reserved(MiB(reserved)).unwrap()
    }

    #[test]
    fn capacity_is_total_less_reserved_times_ratio() {
        assert_eq!(stock(100, 20, 1.5).capacity(), 120.0);
    }

    #[test]
    fn the_last_unit_may_be_taken_and_not_one_more() {
        let stock = stock(100, 20, 1.0);
        assert!(stock.fits(MiB(30), MiB(50)));
        assert!(!stock.fits(MiB(30), MiB(51)));
    }

    #[test]
    fn a_guest_never_overcommits_against_itself() {
        assert!(!stock(100, 0, 4.0).fits(MiB(0), MiB(101)));
        assert!(stock(100, 0, 4.0).fits(MiB(300), MiB(100)));
    }

    #[test]
    fn units_say_in_which_amounts_it_is_given_out() {
        let units = Units { min: 8, max: Some(24), step: 8 };
        let stock = stock(100, 0, 1.0).with_units(units).unwrap();
        let fits = |wanted| stock.fits(MiB(0), MiB(wanted));
        assert_eq!([4, 8, 12, 24, 32].map(fits), [false, true, false, true, false]);
        assert!(fits(0));
        for units in
            [Units { min: 0, ..units }, Units { step: 0, ..units }, Units { min: 25, ..units }]
        {
            assert!(stock.with_units(units).is_err(), "{units:?}");
        }
    }

    #[test]
    fn reserving_more_than_there_is_is_refused() {
        assert!(Stock::new(MiB(10)).with_reserved(MiB(11)).is_err());
        let text = r#"{"total":10,"reserved":11,"ratio":1.0}"#;
        assert!(serde_json::from_str::<Stock<MiB>>(text).is_err());
    }
}

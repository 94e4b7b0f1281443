//! Resource classes beyond virtual CPUs, memory and disk: licences, accelerators, whatever a host
//! counts.

use std::collections::BTreeMap;

use crate::domain::{ExtraSpecs, InstanceId, Invalid, Quantity, ResourceClass, Stock};

/// Amounts of resource classes, each at least 1; a class that is not there is nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "BTreeMap<ResourceClass, u64>", into = "BTreeMap<ResourceClass, u64>")]
pub struct ClassAmounts(BTreeMap<ResourceClass, u64>);

/// What a host has of resource classes.
pub type ClassStocks = BTreeMap<ResourceClass, Stock<u64>>;

impl Quantity for u64 {
    fn amount(self) -> u64 {
        self
    }
}

impl ResourceClass {
    /// What the keys of extra specs begin with that ask for a class, as in
    /// `resources:CUSTOM_LICENCE = 2`.
    pub const SCOPE: &str = "resources:";

    /// Whether `value` is well-formed for the extra spec `key`; none when it names no class.
    pub fn check_extra_spec(key: &str, value: &str) -> Option<Result<(), Invalid>> {
        let name = key.strip_prefix(Self::SCOPE)?;
        Some(Self::new(name).and_then(|_| amount(key, value)).map(|_| ()))
    }
}

fn amount(key: &str, value: &str) -> Result<u64, Invalid> {
    let amount = value.parse().ok().filter(|amount| (1..=ClassAmounts::MOST).contains(amount));
    amount.ok_or_else(|| {
        let allowed = "an amount from 1 to 2147483647";
        Invalid::new("extra spec resources:", format!("{key}={value}"), allowed)
    })
}

impl ClassAmounts {
    /// Nothing.
    pub const NONE: Self = Self(BTreeMap::new());
    /// The most of one class that a flavor may ask for; also the most that Placement keeps.
    pub const MOST: u64 = i32::MAX as u64;

    /// What extra specs ask for.
    ///
    /// # Errors
    /// [`Invalid`] for a key that names no class and for a value that is no amount from 1 to
    /// [`MOST`](Self::MOST).
    pub fn from_specs(specs: &ExtraSpecs) -> Result<Self, Invalid> {
        let mut amounts = BTreeMap::new();
        for (key, value) in specs.iter() {
            if let Some(name) = key.strip_prefix(ResourceClass::SCOPE) {
                amounts.insert(ResourceClass::new(name)?, amount(key, value)?);
            }
        }
        Ok(Self(amounts))
    }

    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The amount of one class.
    pub fn of(&self, class: &ResourceClass) -> u64 {
        self.0.get(class).copied().unwrap_or(0)
    }

    /// Every class of which there is something, with its amount.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceClass, u64)> {
        self.0.iter().map(|(class, amount)| (class, *amount))
    }

    /// Adds `other`, class by class, stopping at the largest number there is.
    pub fn add(&mut self, other: &Self) {
        for (class, amount) in &other.0 {
            match self.0.get_mut(class) {
                Some(sum) => *sum = sum.saturating_add(*amount),
                None => _ = self.0.insert(class.clone(), *amount),
            }
        }
    }

    /// Takes `other` away, class by class, stopping at nothing.
    pub fn take(&mut self, other: &Self) {
        for (class, amount) in &other.0 {
            if let Some(sum) = self.0.get_mut(class) {
                *sum = sum.saturating_sub(*amount);
            }
        }
        self.0.retain(|_, amount| *amount > 0);
    }

    /// The first class of which `self` does not fit beside `used`, where this is in `stock`; none
    /// when it fits. Of what a host does not have, nothing fits.
    pub fn lacks<'a>(&'a self, stock: &ClassStocks, used: &Self) -> Option<&'a ResourceClass> {
        let fits = |class: &ResourceClass, amount: u64| {
            stock.get(class).is_some_and(|stock| stock.fits(used.of(class), amount))
        };
        self.0.iter().find(|(class, amount)| !fits(class, **amount)).map(|(class, _)| class)
    }

    /// The first class of which `self` is more than `stock` may promise in all; none when it is
    /// not.
    pub fn exceeds<'a>(&'a self, stock: &ClassStocks) -> Option<&'a ResourceClass> {
        let capacity = |class| stock.get(class).map_or(0.0, Stock::capacity);
        self.0.iter().find(|(class, sum)| **sum as f64 > capacity(class)).map(|(class, _)| class)
    }
}

impl TryFrom<BTreeMap<ResourceClass, u64>> for ClassAmounts {
    type Error = Invalid;

    fn try_from(amounts: BTreeMap<ResourceClass, u64>) -> Result<Self, Invalid> {
        match amounts.iter().find(|(_, amount)| **amount == 0) {
            Some((class, amount)) => {
                Err(Invalid::new("resource class", format!("{class}={amount}"), "at least 1"))
            }
            None => Ok(Self(amounts)),
        }
    }
}

impl From<ClassAmounts> for BTreeMap<ResourceClass, u64> {
    fn from(amounts: ClassAmounts) -> Self {
        amounts.0
    }
}

/// What a host has of resource classes, and who has taken it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct ClassLedger {
    stocks: ClassStocks,
    used: ClassAmounts,
    claims: BTreeMap<InstanceId, ClassAmounts>,
}

impl ClassLedger {
    pub(crate) fn stocks(&self) -> &ClassStocks {
        &self.stocks
    }

    pub(crate) fn set_stocks(&mut self, stocks: ClassStocks) {
        self.stocks = stocks;
    }

    pub(crate) fn used(&self) -> &ClassAmounts {
        &self.used
    }

    pub(crate) fn claims(&self) -> &BTreeMap<InstanceId, ClassAmounts> {
        &self.claims
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.stocks.is_empty() && self.claims.is_empty()
    }

    /// Counts `amounts` for `instance` instead of what it had.
    pub(crate) fn claim(&mut self, instance: InstanceId, amounts: &ClassAmounts) {
        self.release(instance);
        if !amounts.is_empty() {
            self.used.add(amounts);
            self.claims.insert(instance, amounts.clone());
        }
    }

    pub(crate) fn release(&mut self, instance: InstanceId) {
        if let Some(amounts) = self.claims.remove(&instance) {
            self.used.take(&amounts);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        AllocationRatio, Flavor, FlavorName, HostId, HostName, HostState, Inventory, MiB,
        Resources, Units, Vcpus, ZoneName,
    };

    fn class(name: &str) -> ResourceClass {
        ResourceClass::new(name).unwrap()
    }

    fn amounts(all: &[(&str, u64)]) -> ClassAmounts {
        ClassAmounts(all.iter().map(|(name, amount)| (class(name), *amount)).collect())
    }

    fn flavor(specs: &[(&str, &str)]) -> Flavor {
        let flavor = Flavor::new(FlavorName::new("f").unwrap(), Vcpus(1), MiB(1)).unwrap();
        flavor.with_extra_specs(ExtraSpecs::new(specs.iter().copied()).unwrap())
    }

    fn host(stocks: &[(&str, u64)]) -> HostState {
        let total = Resources { vcpus: Vcpus(99), memory: MiB(99), ..Resources::ZERO };
        let (name, zone) = (HostName::new("h").unwrap(), ZoneName::default());
        let mut host = HostState::new(HostId::from_u128(1), name, zone, Inventory::new(total));
        let stocks = stocks.iter().map(|(name, total)| (class(name), Stock::new(*total)));
        host.set_classes(stocks.collect());
        host
    }

    /// What a flavor with one extra spec asks for, or the field that is wrong.
    fn check(key: &str, value: &str, expected: Result<&[(&str, u64)], &str>) {
        let flavor = flavor(&[(key, value)]);
        let said = flavor.classes().cloned().map_err(|invalid| invalid.field);
        assert_eq!(said, expected.map(amounts), "{key}={value}");
        let checked = ResourceClass::check_extra_spec(key, value).unwrap_or(Ok(()));
        assert_eq!(checked.map_err(|invalid| invalid.field), expected.map(|_| ()));
    }

    #[test]
    fn a_flavor_asks_for_whole_amounts_of_classes_that_are_not_its_own_fields() {
        check("resources:CUSTOM_LICENCE", "2", Ok(&[("CUSTOM_LICENCE", 2)]));
        check("resources:VGPU", "1", Ok(&[("VGPU", 1)]));
        check("resources1:VGPU", "1", Ok(&[]));
        for amount in ["0", "-1", "1.5", "", "many", "2147483648"] {
            check("resources:CUSTOM_LICENCE", amount, Err("extra spec resources:"));
        }
        for class in ["VCPU", "PCPU", "MEMORY_MB", "DISK_GB", "custom_x", "LICENCE", "CUSTOM_", ""]
        {
            check(&format!("resources:{class}"), "1", Err("resource class"));
        }
    }

    #[test]
    fn units_and_ratios_hold_for_classes_too() {
        let mut host = host(&[]);
        let units = Units { min: 2, max: Some(4), step: 2 };
        let stock = Stock::new(6).with_reserved(2).unwrap().with_units(units).unwrap();
        let stock = stock.with_ratio(AllocationRatio::new(1.5).unwrap());
        host.set_classes([(class("CUSTOM_X"), stock)].into());
        let lacks = |host: &HostState, x| host.lacks_class(&amounts(&[("CUSTOM_X", x)])).is_some();
        assert_eq!([1, 2, 3, 4, 6].map(|x| lacks(&host, x)), [true, false, true, false, true]);
        host.claim_classes(InstanceId::from_u128(1), &amounts(&[("CUSTOM_X", 4)]));
        assert_eq!([2, 4].map(|x| lacks(&host, x)), [false, true], "6 in all may be promised");
        assert!(host.lacks_class(&amounts(&[("CUSTOM_Y", 1)])).is_some());
        assert!(host.lacks_class(&ClassAmounts::default()).is_none());
    }

    #[test]
    fn what_was_stored_before_there_were_classes_is_read() {
        let plain = serde_json::to_string(&flavor(&[])).unwrap();
        assert_eq!(serde_json::from_str::<Flavor>(&plain).unwrap(), flavor(&[]));
        let asking = flavor(&[("resources:VGPU", "3")]);
        let text = serde_json::to_string(&asking).unwrap();
        let read: Flavor = serde_json::from_str(&text).unwrap();
        assert_eq!(read.classes(), Ok(&amounts(&[("VGPU", 3)])));
        assert!(serde_json::from_str::<ClassAmounts>(r#"{"VGPU":0}"#).is_err());
        assert!(serde_json::from_str::<ClassAmounts>(r#"{"VCPU":1}"#).is_err());
    }

    proptest! {
        /// Whatever is claimed and released, in any order and again: what is used is what those
        /// have that are there, and of a class no more than there is when each was asked first.
        #[test]
        fn what_is_used_is_what_was_claimed_and_never_more_than_there_is(
            steps in prop::collection::vec((0_u128..6, any::<bool>(), 0_u64..4, 0_u64..4), 1..60),
        ) {
            let mut host = host(&[("CUSTOM_A", 7), ("CUSTOM_B", 3)]);
            let mut there: BTreeMap<u128, (u64, u64)> = BTreeMap::new();
            for (instance, comes, a, b) in steps {
                let id = InstanceId::from_u128(instance);
                let wanted: Vec<_> = [("CUSTOM_A", a), ("CUSTOM_B", b)]
                    .into_iter().filter(|(_, amount)| *amount > 0).collect();
                if comes && !there.contains_key(&instance) {
                    if host.lacks_class(&amounts(&wanted)).is_none() {
                        host.claim(id, Resources::ZERO);
                        host.claim_classes(id, &amounts(&wanted));
                        there.insert(instance, (a, b));
                    }
                } else {
                    host.release(id);
                    there.remove(&instance);
                }
                let sum = there.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                let used = |name: &str| host.classes_used().of(&class(name));
                prop_assert_eq!((used("CUSTOM_A"), used("CUSTOM_B")), sum);
                prop_assert!(sum.0 <= 7 && sum.1 <= 3);
            }
        }
    }
}

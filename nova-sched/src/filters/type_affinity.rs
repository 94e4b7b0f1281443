//! Hosts whose servers are of one flavor.

use nova_core::domain::{HostState, RequestSpec};

use crate::{Filter, Reason, Verdict};

/// Passes hosts on which no server is of another flavor than the one that is asked for, as far as
/// the flavors are known ([`HostState::residents`]). Nova had it until 2017, as
/// `TypeAffinityFilter`.
#[derive(Debug, Default, Clone, Copy)]
pub struct TypeAffinity;

impl Filter for TypeAffinity {
    fn name(&self) -> &str {
        "type-affinity"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let passes = host.residents().all(|there| there.flavor == *request.flavor.name());
        Verdict::pass_if(passes, Reason("has servers of another flavor"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::{FlavorName, ImageProperties, InstanceId, Resident};

    use super::*;
    use crate::filters::check;

    #[test]
    fn servers_of_another_flavor_keep_others_away() {
        let has = |flavor: &'static str| {
            move |h: &mut HostState| {
                let flavor = FlavorName::new(flavor).unwrap();
                let resident = Resident { flavor, image: ImageProperties::default() };
                h.describe(InstanceId::from_u128(9), Arc::new(resident));
            }
        };
        check(TypeAffinity, |_| {}, |_| {}, Ok(()));
        check(TypeAffinity, has("f"), |_| {}, Ok(()));
        check(TypeAffinity, has("g"), |_| {}, Err("has servers of another flavor"));
    }
}

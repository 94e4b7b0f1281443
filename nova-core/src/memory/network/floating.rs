//! Floating IPs of the reference network manager.

use std::net::IpAddr;

use async_trait::async_trait;

use super::*;

#[async_trait]
impl FloatingIps for MemoryNetworks {
    async fn create_pool(&self, pool: &FloatingPool) -> Result<Draft<()>, NetError> {
        let range = v4("floating pool.range", pool.range)?;
        let ledger = self.get::<Ledger>(&Ledger::for_ranges().key()).await?;
        if self.pool(&pool.name).await.is_ok() {
            return Err(NetError::Exists { name: pool.name.to_string() });
        }
        let ranges = self.ranges().await?;
        if let Some(other) = ranges.iter().find(|other| overlap(range, **other)) {
            return Err(NetError::CidrConflict { cidr: pool.range, other: *other });
        }
        let mut txn = Txn::new();
        txn.touch(ledger.as_ref(), &Ledger::for_ranges()).create(pool);
        Ok(Draft { value: (), txn })
    }

    async fn delete_pool(&self, name: &PoolName) -> Result<Draft<()>, NetError> {
        let pool = self.pool(name).await?;
        let rows = self.held(name).await?;
        let mut txn = Txn::new();
        txn.remove(&pool);
        for row in rows.values() {
            if let AddressState::Owned(owner) = &row.value.state {
                let (what, by) = (name.to_string(), owner.project.to_string());
                return Err(NetError::InUse { what, by });
            }
            txn.remove(row);
        }
        // As for a network: the next allocation takes one of those or one of these.
        for fresh in never_used(v4("floating pool.range", pool.value.range)?, &rows) {
            txn.guard(Guard::Absent(keys::floating_ip(fresh)));
        }
        Ok(Draft { value: (), txn })
    }

    async fn allocate(&self, request: &FloatingRequest) -> Result<Draft<FloatingIp>, NetError> {
        let pool = self.pool(&request.pool).await?;
        let rows = self.held(&request.pool).await?;
        let range = v4("floating pool.range", pool.value.range)?;
        // Each allocation leaves one row more, or one that has rested less.
        let newest = rows.values().map(|row| row.revision).max().unwrap_or(Revision(0));
        let mut chance = self.seed.child_of("floating IP", newest.0.into()).chance();
        let address = next(range, &rows, self.clock.now(), |row| &row.state, &mut chance)
            .ok_or_else(|| NetError::NoMoreAddresses { of: request.pool.to_string() })?;
        let project = request.project.clone();
        let server = request.server;
        let owner = FloatingOwner { project, binding: None, server, operation: None };
        let state = AddressState::Owned(owner);
        let floating = FloatingIp { address, pool: request.pool.clone(), state };
        let mut txn = Txn::new();
        txn.unchanged(&pool).touch(rows.get(&address), &floating);
        Ok(Draft { value: floating, txn })
    }

    async fn associate(
        &self,
        address: IpAddr,
        binding: FloatingBinding,
    ) -> Result<Draft<FloatingIp>, NetError> {
        let (row, owner) = self.floating(address).await?;
        let ports = self.below::<Port>(&keys::ports_of(binding.instance)).await?;
        let Some(port) = ports.iter().find(|port| port.value.address == binding.fixed) else {
            return Err(Invalid::new(
                "floating ip.fixed",
                binding.fixed,
                "one of the server's own addresses",
            )
            .into());
        };
        let floating = leading(&row.value, &owner, Some(binding));
        let mut txn = Txn::new();
        // The port is written, not only guarded: a release that was decided before would
        // otherwise leave the floating IP leading to nobody.
        txn.replace(&row, &floating).replace(port, &port.value);
        Ok(Draft { value: floating, txn })
    }

    async fn disassociate(&self, address: IpAddr) -> Result<Draft<FloatingIp>, NetError> {
        let (row, owner) = self.floating(address).await?;
        let floating = leading(&row.value, &owner, None);
        let mut txn = Txn::new();
        match owner.binding {
            Some(_) => txn.replace(&row, &floating),
            None => txn.unchanged(&row),
        };
        Ok(Draft { value: floating, txn })
    }

    async fn release(&self, address: IpAddr) -> Result<Draft<()>, NetError> {
        let (row, owner) = self.floating(address).await?;
        if let Some(binding) = owner.binding {
            let (what, by) = (address.to_string(), binding.instance.to_string());
            return Err(NetError::InUse { what, by });
        }
        let mut txn = Txn::new();
        txn.replace(&row, &FloatingIp { state: self.rested(), ..row.value.clone() });
        Ok(Draft { value: (), txn })
    }
}

impl MemoryNetworks {
    /// Leads the floating IPs that were allocated with a server to the first of its `ports`.
    pub(super) async fn lead_there(
        &self,
        request: &PortRequest,
        ports: &[Port],
        txn: &mut Txn,
    ) -> Result<(), NetError> {
        let PortRequest { instance, host, .. } = *request;
        let Some(fixed) = ports.first().map(|port| port.address) else { return Ok(()) };
        for row in self.all::<FloatingIp>().await? {
            let AddressState::Owned(owner) = &row.value.state else { continue };
            let binding = Some(FloatingBinding { instance, fixed, host });
            if owner.server == Some(instance) && owner.binding != binding {
                txn.replace(&row, &leading(&row.value, owner, binding));
            }
        }
        Ok(())
    }
}

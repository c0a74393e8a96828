//! Fair shares: what one address, its network and everybody may hold at once.
//!
//! A stranger who takes all of something locks everybody else out of it: connections, memory for bodies, the hash pool.
//! So each is held in shares. A share belongs to an address and its network (/24 of IPv4, /64 of IPv6), grows while it
//! is held, and is given back when it is dropped. This machine's own address ([`is_own_machine`]) is bound by the total
//! alone: what comes from it is a proxy that nobody declared, or the operator.
//!
//! Invariants: the counts are the sums of the shares that are held; an address that holds nothing has no entry.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most that may be held at once, in the unit of what is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareLimits {
    pub total: u64,
    pub network: u64,
    pub address: u64,
}

impl ShareLimits {
    /// Shares of a total in percent, each at least 1.
    pub fn percent(total: u64, network: u64, address: u64) -> ShareLimits {
        let part = |percent: u64| (total.saturating_mul(percent) / 100).max(1);
        ShareLimits { total, network: part(network), address: part(address) }
    }
}

/// Why a share was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Address,
    Network,
    Total,
}

impl Full {
    /// A stable word, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Full::Address => "address",
            Full::Network => "network",
            Full::Total => "total",
        }
    }
}

/// Something that is held in shares.
#[derive(Debug)]
pub struct Shares {
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    limits: ShareLimits,
    total: u64,
    networks: HashMap<IpAddr, u64>,
    addresses: HashMap<IpAddr, u64>,
}

/// What one holder has. Dropping it gives all of it back.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    address: IpAddr,
    amount: u64,
}

impl Shares {
    pub fn new(limits: ShareLimits) -> Arc<Shares> {
        let (networks, addresses) = (HashMap::new(), HashMap::new());
        Arc::new(Shares { held: Mutex::new(Held { limits, total: 0, networks, addresses }) })
    }

    /// A share of an amount, which may be nothing and grow later.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing is held then. Trying again can help.
    pub fn take(self: &Arc<Self>, address: IpAddr, amount: u64) -> Result<Share, Full> {
        let mut share = Share { shares: self.clone(), address: address.to_canonical(), amount: 0 };
        share.grow(amount)?;
        Ok(share)
    }

    /// Other limits from now on. What is held stays held.
    pub fn set_limits(&self, limits: ShareLimits) {
        self.lock().limits = limits;
    }

    /// What all shares hold.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Takes more.
    ///
    /// # Errors
    ///
    /// [`Full`]; the share stays as it is.
    pub fn grow(&mut self, amount: u64) -> Result<(), Full> {
        if amount == 0 {
            return Ok(());
        }
        let mut held = self.shares.lock();
        let limits = held.limits;
        let fits = |held: u64, most: u64| held.saturating_add(amount) <= most;
        if !fits(held.total, limits.total) {
            return Err(Full::Total);
        }
        if !is_own_machine(self.address) {
            let network = network(self.address);
            if !fits(held.networks.get(&network).copied().unwrap_or(0), limits.network) {
                return Err(Full::Network);
            }
            if !fits(held.addresses.get(&self.address).copied().unwrap_or(0), limits.address) {
                return Err(Full::Address);
            }
            *held.networks.entry(network).or_default() += amount;
            *held.addresses.entry(self.address).or_default() += amount;
        }
        held.total += amount;
        drop(held);
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut held = self.shares.lock();
        held.total -= self.amount;
        if !is_own_machine(self.address) {
            give_back(&mut held.networks, network(self.address), self.amount);
            give_back(&mut held.addresses, self.address, self.amount);
        }
    }
}

fn give_back(map: &mut HashMap<IpAddr, u64>, key: IpAddr, amount: u64) {
    if let Some(held) = map.get_mut(&key) {
        *held -= amount;
        if *held == 0 {
            map.remove(&key);
        }
    }
}

/// Whether an address is the one that a program on this machine has unless it chooses another: 127.0.0.1 or ::1. A
/// proxy that nobody declared has it, so its clients cannot be told apart. Other addresses of 127.0.0.0/8 are chosen on
/// purpose, and count like any other.
pub fn is_own_machine(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
    }
}

/// An address's network: /24 of IPv4, /64 of IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ShareLimits = ShareLimits { total: 10, network: 6, address: 4 };

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[track_caller]
    fn take(shares: &Arc<Shares>, from: &str, amount: u64) -> Result<Share, Full> {
        shares.take(address(from), amount)
    }

    #[test]
    fn an_address_a_network_and_all_together_have_their_most() {
        let shares = Shares::new(LIMITS);
        assert_eq!(take(&shares, "192.0.2.1", 5).err(), Some(Full::Address));
        let one = take(&shares, "192.0.2.1", 4).expect("its most");
        assert_eq!(take(&shares, "192.0.2.1", 1).err(), Some(Full::Address));
        let two = take(&shares, "::ffff:192.0.2.2", 2).expect("the network's most");
        assert_eq!(take(&shares, "192.0.2.3", 1).err(), Some(Full::Network));
        let three = take(&shares, "2001:db8::1", 4).expect("all");
        assert_eq!(take(&shares, "198.51.100.1", 1).err(), Some(Full::Total));
        assert_eq!(shares.total(), 10);
        drop(two);
        drop(take(&shares, "192.0.2.3", 2).expect("given back"));
        drop((one, three));
        assert_eq!(shares.total(), 0);
        let held = shares.lock();
        assert!(held.addresses.is_empty() && held.networks.is_empty());
    }

    #[test]
    fn ipv6_addresses_of_one_subscriber_are_one_network() {
        let shares = Shares::new(LIMITS);
        let _one = take(&shares, "2001:db8:0:1::1", 3).expect("taken");
        let _two = take(&shares, "2001:db8:0:1:ffff::1", 3).expect("taken");
        assert_eq!(take(&shares, "2001:db8:0:1::3", 1).err(), Some(Full::Network));
        assert!(take(&shares, "2001:db8:0:2::1", 1).is_ok());
    }

    #[test]
    fn a_share_grows_up_to_the_limit_and_a_refused_growth_changes_nothing() {
        let shares = Shares::new(LIMITS);
        let mut share = take(&shares, "192.0.2.1", 0).expect("nothing yet");
        assert_eq!((share.grow(3), share.grow(2), share.grow(1)), (Ok(()), Err(Full::Address), Ok(())));
        drop(share);
        assert_eq!(shares.total(), 0);
    }

    #[test]
    fn this_machine_is_bound_by_the_total_alone() {
        let shares = Shares::new(LIMITS);
        let own = take(&shares, "127.0.0.1", 10).expect("all of it");
        assert_eq!(take(&shares, "::1", 1).err(), Some(Full::Total));
        drop(own);
        let other = take(&shares, "127.0.0.2", 4).expect("the most of an address");
        assert_eq!(take(&shares, "127.0.0.2", 1).err(), Some(Full::Address));
        assert_eq!(take(&shares, "127.0.0.3", 3).err(), Some(Full::Network));
        drop(other);
        let own = take(&shares, "::ffff:127.0.0.1", 10).expect("all of it");
        drop(own);
        assert_eq!(shares.total(), 0);
    }

    #[test]
    fn percents_are_at_least_one() {
        assert_eq!(ShareLimits::percent(3, 25, 10), ShareLimits { total: 3, network: 1, address: 1 });
        let all = ShareLimits::percent(10_000, 25, 10);
        assert_eq!(all, ShareLimits { total: 10_000, network: 2500, address: 1000 });
    }
}

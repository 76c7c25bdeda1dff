//! A range of IP addresses.

use std::fmt;
use std::net::IpAddr;

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// The addresses whose first `bits` bits are those of `address`; `None` if an address has fewer bits.
    pub fn new(address: IpAddr, bits: u32) -> Option<Self> {
        (bits <= width(address)).then_some(Self { address, bits })
    }

    /// One address alone.
    pub fn only(address: IpAddr) -> Self {
        Self { address, bits: width(address) }
    }

    /// Whether `address` is one of them. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let unused = width(self.address) - self.bits;
        let prefix = |address: IpAddr| number(address).checked_shr(unused).unwrap_or(0);
        width(address) == width(self.address) && prefix(address) == prefix(self.address)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str, bits: u32) -> Network {
        Network::new(address.parse().unwrap(), bits).unwrap()
    }

    #[test]
    fn a_network_holds_what_begins_like_it() {
        let contains = |network: Network, address: &str| network.contains(address.parse().unwrap());
        let ten = network("10.0.0.0", 8);
        assert!(contains(ten, "10.255.0.1") && contains(ten, "::ffff:10.1.2.3"));
        assert!(!contains(ten, "11.0.0.0") && !contains(ten, "::a00:1"));
        let odd = network("192.168.4.0", 22);
        assert!(contains(odd, "192.168.7.255") && !contains(odd, "192.168.8.0"));
        assert!(contains(network("0.0.0.0", 0), "203.0.113.9") && !contains(network("0.0.0.0", 0), "::1"));
        assert!(contains(network("::", 0), "2001:db8::1") && !contains(network("::", 0), "10.0.0.1"));
        assert!(contains(network("2001:db8::", 32), "2001:db8:ffff::") && !contains(network("fd00::", 8), "fe00::"));
        assert!(contains(Network::only("127.0.0.1".parse().unwrap()), "127.0.0.1"));
        assert_eq!(Network::new("10.0.0.0".parse().unwrap(), 33), None);
    }
}

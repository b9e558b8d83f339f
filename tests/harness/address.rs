//! Loopback addresses: one of its own per call, so that tests beside each other and connections
//! that leave from 127.0.0.1 never take a port that was found free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// `count` addresses with free ports on a loopback address that nobody else uses.
pub(crate) fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let ip = loopback(std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    // All are bound before the first is released: the ports differ.
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((ip, 0)).expect("a loopback address")).collect();
    held.iter().map(|listener| listener.local_addr().expect("bound")).collect()
}

/// Peer, HTTP and gRPC address of so many nodes; clients look for gRPC at the HTTP port + 1000.
pub(crate) fn free_nodes(count: usize) -> Vec<[SocketAddr; 3]> {
    loop {
        let addresses = free_addresses(2 * count);
        let nodes = addresses.chunks(2).map(|own| {
            let grpc = SocketAddr::new(own[1].ip(), own[1].port().checked_add(1000)?);
            (!addresses.contains(&grpc)).then_some([own[0], own[1], grpc])
        });
        if let Some(nodes) = nodes.collect() {
            return nodes;
        }
    }
}

/// 127.20.0.1 to 127.219.249.250.
fn loopback(pid: u32, call: u32) -> Ipv4Addr {
    let number = pid.wrapping_mul(251).wrapping_add(call) % (200 * 250 * 250);
    let byte = |value: u32| u8::try_from(value).expect("below 250");
    Ipv4Addr::new(127, 20 + byte(number / 62_500), byte(number / 250 % 250), 1 + byte(number % 250))
}

//! How nodes of Quorate are started.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::cluster::{free_ports, own_address};
use crate::process::Launch;

/// The binary: `QUORATE_BIN`, else the one cargo built for this benchmark.
pub(crate) fn program() -> std::ffi::OsString {
    std::env::var_os("QUORATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_quorate").into())
}

/// One launch for each node; a single node founds a cluster of one.
pub(crate) fn launches(
    count: usize,
    directory: &Path,
) -> anyhow::Result<(Vec<SocketAddr>, Vec<Launch>)> {
    let mut ports = Vec::new();
    for node in 0..count {
        ports.push((own_address(node), free_ports(own_address(node), 3)?));
    }
    let at = |node: usize, port: usize| {
        let (address, free) = ports.get(node)?;
        Some(SocketAddr::new(IpAddr::V4(*address), *free.get(port)?))
    };
    let peers: Vec<String> = (0..count).filter_map(|node| Some(at(node, 2)?.to_string())).collect();
    let mut addresses = Vec::new();
    let mut launches = Vec::new();
    for node in 0..count {
        let (Some(http), Some(grpc), Some(peer)) = (at(node, 0), at(node, 1), at(node, 2)) else {
            continue;
        };
        let mut arguments = vec!["serve".into(), "--data-dir".into()];
        arguments.push(directory.join(format!("node-{node}")).into_os_string());
        for (flag, value) in
            [("--http-listen", http), ("--grpc-listen", grpc), ("--peer-listen", peer)]
        {
            arguments.extend([flag.into(), value.to_string().into()]);
        }
        if count > 1 {
            arguments.extend(["--advertise".into(), peer.to_string().into()]);
            arguments.extend(["--peers".into(), peers.join(",").into()]);
        }
        addresses.push(http);
        launches.push(Launch {
            program: program(),
            arguments,
            environment: Vec::new(),
            log: directory.join(format!("node-{node}.log")),
        });
    }
    Ok((addresses, launches))
}

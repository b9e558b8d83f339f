//! How nodes of r-nacos are started. It speaks the same HTTP paths; its writes are not fsynced.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::Context as _;

use crate::cluster::free_ports;
use crate::process::Launch;

/// The binary that `RNACOS_BIN` names.
pub(crate) fn program() -> anyhow::Result<std::ffi::OsString> {
    std::env::var_os("RNACOS_BIN").context("RNACOS_BIN is not set")
}

/// One launch for each node; the first founds the cluster, the others join it.
pub(crate) fn launches(
    count: usize,
    directory: &Path,
) -> anyhow::Result<(Vec<SocketAddr>, Vec<Launch>)> {
    let program = program()?;
    // It listens on every address, so a port must be free on all of them.
    let ports = free_ports(Ipv4Addr::UNSPECIFIED, 2 * count)?;
    let (http_ports, grpc_ports) = ports.split_at_checked(count).context("two ports a node")?;
    let founder = format!("127.0.0.1:{}", grpc_ports.first().context("no node")?);
    let mut addresses = Vec::new();
    let mut launches = Vec::new();
    for (index, (http, grpc)) in http_ports.iter().zip(grpc_ports).enumerate() {
        let data = directory.join(format!("node-{index}"));
        let mut environment = vec![
            ("RNACOS_HTTP_PORT", http.to_string()),
            ("RNACOS_GRPC_PORT", grpc.to_string()),
            ("RNACOS_HTTP_CONSOLE_PORT", "0".to_owned()),
            ("RNACOS_DATA_DIR", data.to_string_lossy().into_owned()),
            ("RNACOS_CONFIG_DB_DIR", data.to_string_lossy().into_owned()),
            ("RNACOS_RAFT_NODE_ID", (index + 1).to_string()),
            ("RNACOS_RAFT_NODE_ADDR", format!("127.0.0.1:{grpc}")),
            ("RUST_LOG", "error".to_owned()),
        ];
        if index == 0 {
            environment.push(("RNACOS_RAFT_AUTO_INIT", "true".to_owned()));
        } else {
            environment.push(("RNACOS_RAFT_JOIN_ADDR", founder.clone()));
        }
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, *http)));
        launches.push(Launch {
            program: program.clone(),
            arguments: Vec::new(),
            environment,
            log: directory.join(format!("node-{index}.log")),
        });
    }
    Ok((addresses, launches))
}

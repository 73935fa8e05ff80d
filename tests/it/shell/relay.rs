//! An address behind which servers come and go.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP relay in front of one server after the other, so that a verb keeps its address.
pub struct Relay {
    pub address: SocketAddr,
    server: Arc<watch::Sender<Option<SocketAddr>>>,
}

impl Relay {
    /// A relay that begins in front of this server.
    pub async fn to(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Arc::new(watch::Sender::new(Some(server)));
        let servers = server.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut servers = servers.subscribe();
                tokio::spawn(async move {
                    // Where there is no server, the connection is closed at once.
                    let Some(server) = *servers.borrow_and_update() else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ended = copy_bidirectional(&mut client, &mut server) => {}
                        _cut = servers.changed() => {}
                    }
                });
            }
        });
        Relay { address, server }
    }

    /// Ends all connections; new ones go to another server, or nowhere.
    pub fn lead_to(&self, server: Option<SocketAddr>) {
        self.server.send_replace(server);
    }
}

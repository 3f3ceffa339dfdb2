//! How a simulator comes up.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::accounts::{Accounts, AuthKey};
use super::certificates::{self, Certificates};
use super::handle::Simulator;
use super::kind::{Error, ServerKind};
use super::options::Options;
use super::record::Journal;
use super::rsa_key;
use super::script::Player;
use super::server::Server;
use super::world::World;

impl Simulator {
    /// Makes keys and certificates and starts all four servers.
    ///
    /// # Errors
    /// A port is taken, or the script does not fit.
    pub async fn start(options: Options) -> Result<Self, Error> {
        options.script.check()?;
        let bundle_id = options.bundle_ids.first().cloned().unwrap_or_default();
        let certificates = Certificates::generate(options.listen, &options.names, &bundle_id)?;
        let (auth_key, point) = certificates::auth_key()?;
        let rsa_key = rsa_key::shared().await?;
        let accounts = Accounts::default();
        {
            let mut state = accounts.write();
            let team = options.team_id.clone();
            let bundles = options.bundle_ids.iter().cloned().collect();
            state.teams.insert(team.clone(), bundles);
            let key = AuthKey {
                team,
                point,
                environment: None,
                apps: None,
            };
            state.keys.insert(options.key_id.clone(), key);
        }
        let player = Player::default();
        player.play(options.script.clone());
        let world = Arc::new(World {
            journal: Journal::new(options.keep),
            options,
            accounts,
            player,
            connections: AtomicU64::new(0),
            token_urls: OnceLock::new(),
        });
        let servers = servers(&world, &certificates).await?;
        let [_, _, _, oauth] = &servers;
        let port = oauth.address().port();
        let token_url = oauth.url() + "/token";
        let urls = ["localhost", "127.0.0.1", "[::1]"]
            .map(|host| format!("http://{host}:{port}/token"))
            .into_iter()
            .chain([token_url.clone()])
            .collect();
        // Set here only, so it cannot be set already.
        let _ = world.token_urls.set(urls);
        let project = world.options.project_id.clone();
        let email = format!("sender@{project}.iam.gserviceaccount.com");
        let service_account = world.add_service_account(&email, &project, &rsa_key, &token_url);
        Ok(Self {
            world,
            certificates,
            auth_key,
            service_account,
            servers,
        })
    }
}

async fn servers(
    world: &Arc<World>,
    certificates: &Certificates,
) -> Result<[Arc<Server>; 4], Error> {
    let ports = world.options.ports;
    let server = async |kind: ServerKind, port| {
        let tls = match kind {
            ServerKind::Oauth => None,
            ServerKind::Fcm => Some(acceptor(certificates, false)?),
            ServerKind::ApnsProduction | ServerKind::ApnsSandbox => {
                Some(acceptor(certificates, true)?)
            }
        };
        let address = SocketAddr::new(world.options.listen, port);
        Server::start_new(kind, address, Arc::clone(world), tls)
            .await
            .map_err(|source| Error::Listen {
                server: kind,
                address,
                source,
            })
    };
    Ok([
        server(ServerKind::ApnsProduction, ports.apns_production).await?,
        server(ServerKind::ApnsSandbox, ports.apns_sandbox).await?,
        server(ServerKind::Fcm, ports.fcm).await?,
        server(ServerKind::Oauth, ports.oauth).await?,
    ])
}

/// TLS 1.2 and 1.3 with ALPN `h2`; `APNs` also asks for a client certificate,
/// which may be left out.
fn acceptor(certificates: &Certificates, ask: bool) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if ask {
        let mut roots = RootCertStore::empty();
        roots.add(certificates.ca_der.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|_| Error::Key("the authority cannot verify clients"))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = certificates.server_key.clone_key();
    let mut config = builder.with_single_cert(certificates.server_chain.clone(), key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

//! The native API, as the settings ask for it.

use std::sync::Arc;

use tollgate_proto::tollgate::v1::admin_server::AdminServer;

use crate::adapter::native::{AdminService, Leases, NativeService};
use crate::admin::Writes;
use crate::config::settings::Settings;
use crate::engine::Engine;

/// Checks and leases. Servers that share a token take back each other's leases.
pub(super) fn service(settings: &Settings, engine: &Arc<Engine>) -> NativeService {
    let key = match settings.peers.token.reveal() {
        "" => Leases::own_key(),
        token => Leases::shared_key(token),
    };
    NativeService::new(engine.clone(), Leases::new(engine.clone(), key))
}

/// What operators do to keys.
pub(super) fn admin(settings: &Settings, engine: &Arc<Engine>) -> AdminServer<AdminService> {
    let writes = Arc::new(Writes::with(settings.admin.token.reveal()));
    AdminServer::new(AdminService::new(engine.clone(), writes))
}

//! The host side of `wit/`, generated. Each interface is implemented in the file of its name.

use crate::host;

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "inferlet",
    imports: { default: trappable },
    trappable_error_type: { "pie:inferlet/types.error" => crate::host::Failure },
    require_store_data_send: true,
    with: {
        "pie:inferlet/model.model": host::model::ModelHandle,
        "pie:inferlet/context.context": host::context::Context,
        "pie:inferlet/forward.token-counts": host::counts::TokenCounts,
        "pie:inferlet/embeds.embeddings": host::embeds::Embeddings,
        "pie:inferlet/grammar.constraint": host::grammar::Constraint,
        "pie:inferlet/adapter.adapter": host::adapter::Adapter,
        "pie:inferlet/messaging.subscription": host::messaging::Subscription,
        "pie:inferlet/runtime.child": host::runtime::Child,
    },
});

pub(crate) use pie::inferlet as api;
pub(crate) use pie::inferlet::types::Error as WitError;

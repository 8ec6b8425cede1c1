//! Compiles the `.proto` files without a system `protoc`.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=envoy");
    println!("cargo:rerun-if-changed=google");
    println!("cargo:rerun-if-changed=ratelimit");
    println!("cargo:rerun-if-changed=tollgate");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("envoy/service/ratelimit/v3/rls.proto")?;
    for file in ["check", "breaker", "admin", "peer"] {
        compiler.open_file(format!("tollgate/v1/{file}.proto"))?;
    }

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.file_descriptor_set().encode_to_vec())?;
    // after the descriptors: reflection must not offer a service that is only called
    compiler.open_file("envoy/service/discovery/v3/ads.proto")?;
    compiler.open_file("ratelimit/config/ratelimit/v3/rls_conf.proto")?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

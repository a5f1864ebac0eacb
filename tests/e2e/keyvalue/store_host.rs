//! The interface `wasi:keyvalue/store`, implemented once for the bindings of each platform, whose types differ.

/// Implements the interface for `store`, `Bucket` and `Error` of the module that calls it.
macro_rules! implement_store {
    () => {
        impl store::Host for State {
            async fn open(&mut self, bucket: String) -> Result<Result<Resource<Bucket>, Error>> {
                let open = |memory: &mut Memory| memory.open(&bucket);
                match self.caller.call_at_once("open", open)? {
                    Ok(()) => Ok(Ok(self.table.push(Bucket)?)),
                    Err(error) => Ok(Err(error.into())),
                }
            }
        }

        impl store::HostBucket for State {
            async fn get(
                &mut self,
                _: Resource<Bucket>,
                name: String,
            ) -> Result<Result<Option<Vec<u8>>, Error>> {
                let stored = self.caller.call("get", |memory| memory.get(&name)).await?;
                Ok(stored.map_err(Error::from))
            }

            async fn set(
                &mut self,
                _: Resource<Bucket>,
                name: String,
                bytes: Vec<u8>,
            ) -> Result<Result<(), Error>> {
                let set = self.caller.call("set", |memory| memory.set(&name, bytes));
                Ok(set.await?.map_err(Error::from))
            }

            async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
                self.table.delete(bucket)?;
                Ok(())
            }
        }

        impl From<StoreError> for Error {
            fn from(error: StoreError) -> Self {
                match error {
                    StoreError::NoSuchStore => Self::NoSuchStore,
                    StoreError::AccessDenied => Self::AccessDenied,
                    StoreError::Other(reason) => Self::Other(reason),
                }
            }
        }
    };
}

pub(super) use implement_store;

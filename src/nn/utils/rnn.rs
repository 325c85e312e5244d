//! Sequences of different lengths, packed and padded, as in torch.nn.utils.rnn.
//!
//! The recurrent layers take a [`PackedSequence`] by [`forward_packed`](crate::nn::Recurrent::forward_packed); with
//! [`forward_lengths`](crate::nn::Recurrent::forward_lengths) they take a padded tensor and its lengths directly.

#[doc(inline)]
pub use crate::functional::packed::{
    PackOptions, PackedSequence, PadPackedOptions, PadSequenceOptions, PaddingSide, pack_padded_sequence,
    pack_sequence, pad_packed_sequence, pad_sequence, unpack_sequence, unpad_sequence,
};

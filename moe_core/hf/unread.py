"""Fields of a quantisation block that no scheme here knows: named, so that nothing is left out in silence.

What is listed is read by `schemes`, or is about how weights were found, are computed with or are loaded, and
changes no byte that is stored (the configuration classes of transformers 5.23.0, vLLM, GPTQModel, Quark).
"""

from __future__ import annotations

from moe_core.hf.block import Block, brief

_READ = """
    bits nbits num_bits w_bit group_size q_group_size zero_point sym lm_head dynamic extra_config data_type
    quant_method quantization_method quant_type quant_type_kwargs quant_config weight_quant_params weights
    weight_block_size moe_quant_algo expert_dtype config_groups format ignore modules_to_not_convert
    exclude_modules exclude skip_modules ignored_layers llm_int8_skip_modules linear_weights_not_to_quantize
    modules_in_block_to_quantize include_input_output_embeddings load_in_4bit load_in_8bit _load_in_4bit
    _load_in_8bit bnb_4bit_quant_type bnb_4bit_use_double_quant head_bits mode quant_algo quantized_layers
    quantization kv_cache_scheme kv_cache_quant_algo kv_cache_group export global_quant_config
    layer_quant_config sparsity_config nbits_per_codebook num_codebooks in_group_size out_group_size
    forward_dtype
"""
_NO_BYTES = """
    act_group_aware activation_dtype activation_scale_rule activation_scale_ub activation_scheme activations
    algo_config amp autoround_version axis backend backward_dtype batch_size block_name_to_quantize
    bnb_4bit_compute_dtype bnb_4bit_quant_storage cache_block_outputs calibration checkpoint_format
    custom_mode damp_auto_increment damp_percent dataset dequantize desc_act do_fuse dtype
    enable_minmax_tuning enable_norm enable_perm enable_proxy_error enable_quanted_input exllama_config fmt
    forward_method fuse_max_seq_len global_compression_ratio gradient_accumulate_steps gradient_dtype
    hadamard_group_size hadamard_size input_activations is_marlin_format iters keep_master_weights
    linear_class llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight llm_int8_threshold
    low_gpu_mem_usage lr matmul_backend max_input_length meta method min_max_tuning minmax_lr
    model_file_base_name model_name_or_path model_seqlen module_name_preceding_first_block mse nsamples
    output_dtype pack_dtype pack_method packing_format pad_token_id producer pseudoquantization quant_mode
    quantization_mode quantization_status quantize_backend quantizer quantized_by rms_norm_eps
    run_compressed scale_dtype scale_fmt scale_rule seqlen softmax_quant_spec static_groups
    store_master_weights tokenizer transform_config transform_init true_sequential tune_metadata tiling_mode
    use_cuda_fp16 use_exllama use_optimized_inference use_rms_norm v2 version view_as_float
"""
_KNOWN = frozenset((*_READ.split(), *_NO_BYTES.split()))


def unread(block: Block, method: str) -> tuple[str, ...]:
    """A sentence where `block` states what is not known here; MLX names modules beside its fields."""
    odd = [
        brief(name)
        for name, value in block.items()
        if name not in _KNOWN
        and value not in (None, False, "", [], {})
        and not (method == "mlx" and _own(value))
    ]
    if not odd:
        return ()
    more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
    return (f"quantization_config: {', '.join(odd[:4])}{more}: not known here, so it changes no number",)


def _own(value: object) -> bool:
    return isinstance(value, dict) or value is False

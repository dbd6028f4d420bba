"""Command line and output layout of test_video.py of the DCVC family and GLC-Video."""

import argparse
import concurrent.futures
import json
import multiprocessing
import os

import torch
from src.utils.test_helper import FAMILY, worker

OWN_OPTIONS = {
    "dcvc-rt": "qp_i qp_p force_zero_thres check_existing write_stream",
    "dcvc-fm": "q_indexes_i q_indexes_p rate_gop_size float16 write_stream",
    "dcvc-uf": "qp_i qp_p skip_thres check_existing model_structure cuda_idx",
    "glc-video": "q_indexes_i q_indexes_p rate_gop_size float16 force_zero_thres check_existing",
}
SHARED = (
    "model_path_i model_path_p rate_num force_intra force_frame_num force_intra_period "
    "reset_interval force_root_path worker cuda calc_ssim stream_path save_decoded_frame "
    "verbose_json verbose"
)


def parse_args():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    names = (SHARED + " " + OWN_OPTIONS[FAMILY]).split()
    for name in names if FAMILY != "dcvc-uf" else set(names) - {"cuda"}:
        parser.add_argument("--" + name)
    parser.add_argument("--test_config", required=True)
    parser.add_argument("--output_path", required=True)
    return vars(parser.parse_args())


def init_func(args, gpu_num):
    process_name = multiprocessing.current_process().name
    int(process_name[process_name.rfind("-") + 1 :])
    for path in (args["model_path_i"], args["model_path_p"]):
        weights = torch.load(path, map_location="cpu")["state_dict"]
        weights["weight"] = weights.pop("module.weight")  # as the scripts take off a prefix
        assert weights["weight"]
    if FAMILY == "glc-video":
        from src.utils.DISTS_pytorch import DISTS
        from src.utils.lpips import LPIPS
        from src.utils.lpips.lpips import LPIPS as OF_THE_LOSS  # as src/models/loss.py does

        assert OF_THE_LOSS is LPIPS

        args["lpips"] = LPIPS(net="alex", version="0.1").to("cpu")
        args["lpips"].eval()
        args["dists"] = DISTS().to("cpu")


def main():
    args = parse_args()
    with open(args["test_config"]) as file:
        config = json.load(file)
    multiprocessing.set_start_method("spawn")
    if FAMILY == "dcvc-uf":
        assert torch.cuda.is_available()
        assert args["model_structure"] == "ld"
        assert args["model_path_p"].endswith("video_ld.pth.tar")
    gpu_num = torch.cuda.device_count() if args.get("cuda") == "1" else 0
    torch.cuda.synchronize(device="cpu")  # the real scripts time their work, also on a CPU
    torch.cuda.Event(enable_timing=True).record()
    pool = concurrent.futures.ProcessPoolExecutor(
        max_workers=int(args["worker"]), initializer=init_func, initargs=(args, gpu_num)
    )
    summary = {}
    for dataset, described in config["test_classes"].items():
        summary[dataset] = {}
        for name, sequence in described["sequences"].items():
            job = dict(args, dataset=dataset, sequence=name, **sequence)
            job["folder"] = os.path.join(config["root_path"], described["base_path"], name)
            result = pool.submit(worker, job).result()
            summary[dataset][name] = {"000": dict(result, rate_idx=0)}
    with open(args["output_path"], "w") as file:
        json.dump(rounded(summary), file)
    print("Test finished")


def rounded(value):
    """The real summary has six digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


if __name__ == "__main__":
    main()

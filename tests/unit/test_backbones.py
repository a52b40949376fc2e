"""Built-in backbones: shapes, layers, resizing, weights and what is said of wrong ones."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional

from bserkit import BserkitError, UsageError
from bserkit.plugins.builtin import networks
from bserkit.plugins.builtin.backbones import AlexNet, Torchvision, file_digest

PLANES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def alexnet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(networks.untrained("alexnet", seed=5).state_dict(), path)
    return path


def features(backbone):
    with torch.inference_mode():
        return backbone.load("cpu")(PLANES)


@pytest.mark.parametrize("size", [224, 227, 299])
def test_resizing_by_two_products_is_bilinear(size):
    rows = networks.interpolation(64, size, PLANES)
    expected = functional.interpolate(PLANES, size=(size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(rows @ PLANES @ rows.T, expected, atol=1e-5, rtol=0)


def test_stretched_planes_each_span_black_to_white():
    grey = networks.stretched(PLANES * torch.tensor([1.0, 50.0, 0.02]).view(3, 1, 1))
    assert grey.amin((-2, -1)).eq(0).all()
    torch.testing.assert_close(grey.amax((-2, -1)), torch.ones(2, 3))


def test_a_plane_without_contrast_is_black():
    assert not networks.stretched(torch.full((1, 3, 4, 4), -7.0)).any()


def test_pictures_are_normalised_as_in_torchvision():
    reader = networks.PlaneReader(227, "stretch", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    photo = torch.rand(1, 3, 227, 227)
    photo[..., 0, 0], photo[..., 0, 1] = 0.0, 1.0
    prepared = torchvision.transforms.functional.normalize(photo, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(reader(photo), prepared, atol=1e-4, rtol=0)


def test_clipped_planes_map_minus_3_to_3_sd_to_greys():
    reader = networks.PlaneReader(64, "clip", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    levels = reader(torch.tensor([-9.0, -3.0, 0.0, 3.0, 9.0]).view(5, 1, 1, 1).expand(5, 3, 64, 64))
    torch.testing.assert_close(levels[:, 0, 0, 0], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))


def test_alexnet_is_cut_where_layer_and_relu_say(alexnet_file):
    after, before = (features(AlexNet(weights=str(alexnet_file), relu=relu)) for relu in ("after", "before"))
    assert after.shape == (2, 4096)
    assert before.min() < 0
    assert torch.equal(after, before.relu())
    fc6 = features(AlexNet(weights=str(alexnet_file), layer="fc6"))
    assert fc6.shape == (2, 4096)
    assert not torch.equal(fc6, after)


def test_alexnet_features_equal_torchvision_at_227_px(alexnet_file):
    backbone = AlexNet(weights=str(alexnet_file))
    whole = networks.trained("alexnet", alexnet_file, "alexnet").eval()
    with torch.inference_mode():
        picture = backbone.load("cpu").reader(PLANES)
        hidden = whole.classifier[:6](whole.avgpool(whole.features(picture)).flatten(1))
    assert picture.shape == (2, 3, 227, 227)
    torch.testing.assert_close(features(backbone), hidden)


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("squeezenet1_1", 512),
        ("resnet18", 512),
        ("mobilenet_v3_small", 1024),
        ("efficientnet_b0", 1280),
        ("densenet121", 1024),
        ("googlenet", 1024),
        ("shufflenet_v2_x0_5", 1024),
        ("vit_b_16", 768),
        ("vgg11", 4096),
    ],
)
def test_feature_is_the_input_of_the_last_layer(architecture, size):
    assert Torchvision(arch=architecture, weights="random").feature_size() == size


@pytest.mark.slow
def test_every_network_of_torchvision_can_be_cut():
    known = [
        name
        for name in torchvision.models.list_models(module=torchvision.models)
        # RegNets have no shapes without values, and the large ones have gigabytes of them.
        if not name.startswith("regnet") or name == "regnet_x_400mf"
    ]
    assert len(known) > 60
    for architecture in known:
        assert Torchvision(arch=architecture, weights="random").feature_size() > 100


@pytest.mark.parametrize("architecture", ["squeezenet1_1", "resnet18", "googlenet", "swin_t"])
def test_the_feature_size_is_what_comes_out(architecture):
    backbone = Torchvision(arch=architecture, weights="random")
    assert features(backbone).shape == (2, backbone.feature_size())


def test_an_untrained_network_depends_on_its_seed_only():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = features(Torchvision(arch="squeezenet1_1", weights="random", seed=3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(features(Torchvision(arch="squeezenet1_1", weights="random", seed=3)), one)
    assert not torch.equal(features(Torchvision(arch="squeezenet1_1", weights="random", seed=4)), one)
    digests = {Torchvision(arch="squeezenet1_1", weights="random", seed=seed).weights_digest() for seed in (3, 4)}
    assert len(digests) == 2


def test_weights_are_identified_by_content_not_by_path(tmp_path, alexnet_file):
    copy = tmp_path / "elsewhere.pth"
    copy.write_bytes(alexnet_file.read_bytes())
    one, other = AlexNet(weights=str(alexnet_file)), AlexNet(weights=str(copy))
    assert one.weights_digest() == other.weights_digest() == file_digest(copy)
    assert one.recipe() == other.recipe()


def test_safetensors_are_read_too(tmp_path, alexnet_file):
    path = tmp_path / "alexnet.safetensors"
    save_file(torch.load(alexnet_file, weights_only=True), path)
    assert torch.equal(features(AlexNet(weights=str(path))), features(AlexNet(weights=str(alexnet_file))))


def test_weights_of_another_architecture_are_refused(alexnet_file):
    with pytest.raises(BserkitError, match=r"does not fit squeezenet1_1.*lacks"):
        Torchvision(arch="squeezenet1_1", weights=str(alexnet_file)).load("cpu")


def test_weights_for_other_classes_are_refused(tmp_path):
    path = tmp_path / "ten.pth"
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), path)
    with pytest.raises(BserkitError, match=r"\(10, 512, 1, 1\) instead of \(1000, 512, 1, 1\)"):
        Torchvision(arch="squeezenet1_1", weights=str(path)).load("cpu")


def test_a_file_that_is_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([1, 2, 3], path)
    with pytest.raises(BserkitError, match="not a state dict"):
        AlexNet(weights=str(path)).load("cpu")


def test_a_missing_weights_file_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match=r"no weights file at .*nowhere\.pth"):
        AlexNet(weights=str(tmp_path / "nowhere.pth")).weights_digest()


def test_unknown_network_error_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'resnet18'"):
        Torchvision(arch="resnet-18", weights="random").feature_size()


def test_a_failed_download_names_the_other_ways(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(BserkitError) as caught:
        AlexNet().weights_digest()
    message = str(caught.value)
    for named in ("alexnet-owt-7be5be79.pth", str(tmp_path), "weights=PATH", "weights=random", "no network"):
        assert named in message
    assert "\n" not in message


def test_published_weights_come_from_torchvision_cache(tmp_path, monkeypatch, alexnet_file):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    place = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    place.parent.mkdir()
    place.write_bytes(alexnet_file.read_bytes())
    backbone = AlexNet()
    assert backbone.weights_digest() == file_digest(alexnet_file)
    assert torch.equal(features(backbone), features(AlexNet(weights=str(alexnet_file))))

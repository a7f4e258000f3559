# mypy: ignore-errors
"""Steps, losses and callbacks as users write them, for the tests that train with them."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

import experiments


@experiments.register.loss("own_distil")
class Distil(nn.Module):
    def __init__(self, data, *, temperature: float = 2.0):
        super().__init__()
        self.teacher = nn.Linear(data.outputs, data.outputs)
        self.temperature = temperature
        self.requires_grad_(False)

    def forward(self, pred, target):
        soft = self.teacher(pred.detach()).softmax(1)
        return F.cross_entropy(pred, target) + F.kl_div(
            F.log_softmax(pred / self.temperature, 1), soft, reduction="batchmean"
        )


@experiments.register.loss("own_unfrozen")
class Unfrozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher = nn.Linear(3, 3)

    def forward(self, pred, target):
        return F.cross_entropy(pred, target)


@experiments.register.step("own_distilled")
def distilled(training, xb, yb, *, temperature: float = 2.0):
    pred = training.model(xb)
    loss = training.loss(pred, yb) + 0.1 * F.mse_loss(pred / temperature, torch.zeros_like(pred))
    training.update(loss)
    return pred, yb, loss


@experiments.register.step("own_simclr")
def simclr(training, xb, yb, *, noise: float = 0.1):
    one, two = (training.model(xb + noise * torch.randn_like(xb)) for _ in range(2))
    z = F.normalize(torch.cat([one, two]), dim=1)
    similar = (z @ z.T).fill_diagonal_(-9) / 0.5
    rows = torch.arange(len(z), device=z.device)
    target = rows.roll(len(xb))
    loss = F.cross_entropy(similar, target)
    training.update(loss)
    return one, yb, loss


@experiments.register.model("own_gan", input="flat")
class G(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.g = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, data.features))
        self.d = nn.Sequential(nn.Linear(data.features, 16), nn.ReLU(), nn.Linear(16, data.outputs))

    def forward(self, x):
        return self.d(x)


@experiments.register.step("own_gan")
def gan_step(training, xb, yb):
    m = training.model
    fake = m.g(torch.randn(len(xb), 8, device=training.device))
    d = F.softplus(-m.d(xb)[:, 0]).mean() + F.softplus(m.d(fake.detach())[:, 0]).mean()
    training.update(d, group="d")
    g = F.softplus(-m.d(fake)[:, 0]).mean()
    training.update(g, group="g")
    return m.d(xb), yb, d + g


@experiments.register.step("own_wgan")
def wgan(training, xb, yb, *, weight: float = 10.0):
    m = training.model
    fake = m.g(torch.randn(len(xb), 8, device=training.device))
    share = torch.rand(len(xb), 1, device=xb.device)
    between = (share * xb + (1 - share) * fake.detach()).requires_grad_()
    gradient = torch.autograd.grad(m.d(between)[:, 0].sum(), between, create_graph=True)[0]
    d = m.d(fake.detach())[:, 0].mean() - m.d(xb)[:, 0].mean() + weight * ((gradient.norm(2, 1) - 1) ** 2).mean()
    training.update(d, group="d")
    g = -m.d(fake)[:, 0].mean()
    training.update(g, group="g")
    return m.d(xb), yb, d


@experiments.register.step("own_counting")
class Counting:
    def __init__(self, *, factor: float = 1.0):
        self.factor, self.seen = factor, 0

    def train(self, training, xb, yb):
        self.seen += 1
        pred = training.model(xb)
        loss = training.loss(pred, yb) * (1 + self.factor / self.seen)
        training.update(loss)
        return pred, yb, loss

    def evaluate(self, training, xb, yb):
        pred = training.model(xb)
        return pred, yb, 2 * training.loss(pred, yb)

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


@experiments.register.step("own_broken")
def broken(training, xb, yb):
    pred = training.model(xb)
    training.update(training.loss(pred, yb), group="gg")
    return pred, yb


@experiments.register.callback("own_hooking")
class Hooking(experiments.Callback):
    def on_fit_start(self, runner):
        runner.optimizer.register_step_post_hook(lambda *_: None)


@experiments.register.callback("own_clipping")
class Clipping(experiments.Callback):
    def on_begin(self, runner):
        def clip(*_):
            with torch.no_grad():
                for p in runner.params:
                    p.clamp_(-0.05, 0.05)

        runner.optimizer.register_step_post_hook(clip)


@experiments.register.callback("own_lacking")
class Lacking(experiments.Callback):
    def on_fit_start(self, runner):
        self.copy = 1

    def on_epoch_end(self, runner, epoch, figures):
        self.copy += 1


@experiments.register.loss("own_sum", targets="classes")
def own_sum(pred, target):
    return F.cross_entropy(pred, target, reduction="sum")


@experiments.register.loss("own_per_batch", targets="classes")
def own_per_batch(pred, target):
    weight = torch.ones(pred.shape[1])
    weight[-1] = 50
    return F.cross_entropy(pred, target, weight=weight)


@experiments.register.loss("own_weighted", targets="classes")
def own_weighted(pred, target):
    weight = torch.ones(pred.shape[1])
    weight[-1] = 50
    return F.cross_entropy(pred, target, weight=weight, reduction="sum"), weight[target].sum()


@experiments.register.model("own_pinn", input="flat", gradients=True)
class Pinn(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(data.features, 8), nn.Tanh(), nn.Linear(8, data.outputs))

    def forward(self, x):
        x = x.requires_grad_()
        u = self.net(x)
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        return u + slope.mean(1, keepdim=True)


@experiments.register.model("own_pinn_unsaid", input="flat")
class Unsaid(Pinn):
    def __init__(self, data):
        super().__init__(data)


@experiments.register.step("own_forgetful")
class Forgetful:
    def train(self, training, xb, yb):
        return distilled(training, xb, yb)

    def state_dict(self):
        return {}
